"""The generated files as they ought to be, and what is missing in Chinese."""

from __future__ import annotations

import json
from pathlib import Path

from comfy_api.latest import io

from .tables import CHINESE, ENGLISH, Words, english_names, inputs_table, nodes_table, output_name, outputs_table

COMMAND = "python run.py pages"


def marks(part: str) -> tuple[str, str]:
    """The lines around a generated part."""
    return f"<!-- {part}: {COMMAND} -->", f"<!-- end of {part} -->"


def put(text: str, part: str, generated: str) -> str:
    """`text` with `generated` between the marks of a part; ValueError where it has none."""
    begin, end = marks(part)
    before, mark, rest = text.partition(begin)
    _, closing, after = rest.partition(end)
    if not mark or not closing:
        raise ValueError(f"expected the lines `{begin}` and `{end}`, where {part} belong")
    return f"{before}{begin}\n\n{generated}\n\n{end}{after}"


def page_file(root: Path, node_id: str, language: str) -> Path:
    """Where ComfyUI's help panel looks for a node's page: the language's own, else the English one."""
    docs = root / "web" / "docs"
    return docs / f"{node_id}.md" if language == "en" else docs / node_id / f"{language}.md"


def read_locale(root: Path, language: str) -> dict:
    return json.loads((root / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def page(text: str, schema: io.Schema, words: Words, locale: dict | None = None) -> str:
    """A help page with its tables; a node without outputs has no table of them."""
    text = put(text, "inputs", inputs_table(schema, words, locale))
    return put(text, "outputs", outputs_table(schema, words, locale)) if schema.outputs else text


def generate(root: Path, schemas: dict[str, io.Schema]) -> tuple[dict[Path, str], list[str]]:
    """({file: its text as it ought to be}, faults that only a person can mend)."""
    files, faults = {}, []
    chinese = read_locale(root, "zh")
    names = json.dumps(english_names(schemas), ensure_ascii=False, indent=2)
    files[root / "locales" / "en" / "nodeDefs.json"] = names + "\n"

    def fill(file: Path, write):
        if not file.is_file():
            faults.append(f"{file.relative_to(root)} is missing: write it after another node's page")
            return
        try:
            files[file] = write(file.read_text(encoding="utf-8"))
        except ValueError as error:
            faults.append(f"{file.relative_to(root)}: {error}")

    fill(root / "README.md", lambda text: put(text, "nodes", nodes_table(schemas)))
    for node_id, schema in schemas.items():
        fill(page_file(root, node_id, "en"), lambda text, schema=schema: page(text, schema, ENGLISH))
        translated = page_file(root, node_id, "zh")
        if translated.is_file():
            locale = chinese.get(node_id, {})
            fill(translated, lambda text, schema=schema, locale=locale: page(text, schema, CHINESE, locale))
    return files, faults


def drifted(files: dict[Path, str]) -> list[Path]:
    """The files that are not as they ought to be."""
    return [file for file, text in files.items() if not file.is_file() or file.read_text(encoding="utf-8") != text]


def chinese_gaps(root: Path, schemas: dict[str, io.Schema]) -> list[str]:
    """What is missing or outdated in Chinese, where ComfyUI shows the English text: a sentence each."""
    gaps = []
    locale = read_locale(root, "zh")
    for node_id, schema in schemas.items():
        if not page_file(root, node_id, "zh").is_file():
            gaps.append(f"{node_id}: no page web/docs/{node_id}/zh.md")
        node = locale.get(node_id, {})
        gaps += [f"{node_id}: no {key} in locales/zh" for key in ("display_name", "description") if not node.get(key)]
        parts = {"inputs": {part.id: part.id for part in schema.inputs}}
        parts["outputs"] = {str(place): output_name(out) for place, out in enumerate(schema.outputs)}
        for group, wanted in parts.items():
            gaps += _part_gaps(f"{node_id}, {group}", wanted, node.get(group, {}))
    gaps += [f"{node_id}: in locales/zh, but there is no such node" for node_id in locale if node_id not in schemas]
    return gaps


def _part_gaps(where: str, wanted: dict[str, str], translated: dict) -> list[str]:
    gaps = []
    for key, name in wanted.items():
        lacking = [word for word in ("name", "tooltip") if not translated.get(key, {}).get(word)]
        gaps += [f"{where}: no {word} of {name} in locales/zh" for word in lacking]
    gaps += [f"{where}: {key} in locales/zh, but not in the node" for key in translated if key not in wanted]
    return gaps
