"""What a user reads in ComfyUI's help panel and in a Chinese page: it must say what the nodes' schemas say.

The panel asks for docs/<node id>/<language>.md below the pack's web folder, then for docs/<node id>.md, which is the
English page; pictures are looked for in docs/. It renders GitHub's Markdown, without formulas. Every check goes through
all pages and lists all faults. What is missing in Chinese is a warning.
"""

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
from PIL import Image

from comfy_api.latest import io

from safa_pack.nodes import NODES
from safa_pack.tools.pages.files import chinese_gaps, drifted, generate, marks, page_file, put

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "web" / "docs"
SCHEMAS = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in NODES}
LANGUAGES = ("en", "zh")
TERMS = ("inputs", "outputs", "wired", "free", "default", "on", "off")
WORDS = {
    "en": dict(zip(TERMS, ("Inputs", "Outputs", "required", "optional", "default", "on", "off"), strict=True)),
    "zh": dict(zip(TERMS, ("输入", "输出", "必须连接", "可不连接", "默认", "开", "关"), strict=True)),
}
# an item of a list: name, with its translation before it, then in parentheses what it is, then its text
NAME = r"\**(?P<word>[^`*]+)?\** ?`(?P<id>.+?)`\**"
ITEM = re.compile(rf"^- {NAME} ?[(（](?P<what>.+?)[)）][:：] ?(?P<text>.+)$", re.M)
RANGE = re.compile(r"([\d.]+) (?:to|到) ([\d.]+)")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)]*)\)")
CHINESE = re.compile("[\u4e00-\u9fff]")


def page(node_id, language):
    return page_file(ROOT, node_id, language).read_text(encoding="utf-8")


PAGES = [(node, lang) for node in SCHEMAS for lang in LANGUAGES if page_file(ROOT, node, lang).is_file()]


class Faults(list):
    """Collects what is wrong, by page, so that one run shows everything."""

    def expect(self, right, page, what):
        if not right:
            self.append(f"{page}: {what}")


@pytest.fixture
def faults():
    """Fails at the end of the test with all that was found."""
    found = Faults()
    yield found
    assert not found, "\n".join(found)


def listed(node_id, language, kind):
    """The items under a heading: {name: (translated name, what it is, its default or how it is connected, text)}."""
    section = re.search(rf"^## {WORDS[language][kind]}\n(.*?)(?=^## |\Z)", page(node_id, language), re.S | re.M)
    items = {}
    for item in ITEM.finditer(section[1] if section else ""):
        what, _, last = re.sub("；", "; ", item["what"]).partition("; ")
        items[item["id"]] = item["word"], what, last, item["text"]
    return items


def locale(language):
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def names(node_id, language, group):
    return locale(language).get(node_id, {}).get(group, {})


def outputs(schema):
    return [out.display_name or out.id for out in schema.outputs]


def default(part, words):
    if not isinstance(part, io.WidgetInput):
        return words["free"] if part.optional else words["wired"]
    value = getattr(part, "default", None)
    if value is None:
        return ""
    if isinstance(value, bool):
        value = words["on" if value else "off"]
    elif isinstance(value, str):
        value = f"`{value}`"
    else:
        value = f"{value:g}"
    return f"{words['default']} {value}"


def test_every_node_has_an_english_page_and_no_page_is_about_a_missing_node():
    wanted = {page_file(ROOT, node_id, "en") for node_id in SCHEMAS}
    translated = {page_file(ROOT, node_id, "zh") for node_id in SCHEMAS}
    files = {file for file in DOCS.rglob("*") if file.suffix == ".md"}
    assert wanted <= files <= wanted | translated


def test_names_lists_and_the_readme_are_what_the_schemas_say():
    files, faults = generate(ROOT, SCHEMAS)
    assert len(files) >= 2 + len(SCHEMAS)
    lines = [f"{file.relative_to(ROOT)} has drifted: `python run.py pages` writes it" for file in drifted(files)]
    assert not faults + lines, "\n".join(faults + lines)


def test_what_is_missing_in_chinese_is_a_warning():
    for gap in chinese_gaps(ROOT, SCHEMAS):
        warnings.warn(f"in Chinese: {gap}", stacklevel=1)


def test_a_page_has_the_node_s_name_and_says_how_it_works(faults):
    for node_id, language in PAGES:
        where, text = f"{node_id}, {language}", page(node_id, language)
        name = locale(language).get(node_id, {}).get("display_name", SCHEMAS[node_id].display_name)
        faults.expect(text.startswith(f"# {name}\n\n"), where, f"expected the title {name}")
        faults.expect(text.count("```") == 4, where, "expected an equation and an example")
        faults.expect("](https://arxiv.org/abs/" in text, where, "expected a link to a paper")


def test_a_page_has_every_input_with_its_type_and_default(faults):
    for node_id, language in PAGES:
        items, translated = listed(node_id, language, "inputs"), names(node_id, language, "inputs")
        inputs = SCHEMAS[node_id].inputs
        faults.expect(list(items) == [part.id for part in inputs], f"{node_id}, {language}", f"inputs: {list(items)}")
        for part in inputs:
            where = f"{node_id}, {language}, {part.id}"
            word, kind, without, text = items.get(part.id, [""] * 4)
            wanted = None if language == "en" else translated.get(part.id, {}).get("name")
            faults.expect(word == wanted, where, f"is called {word}")
            faults.expect(kind and len(text) > 4, where, "has no type or text")
            faults.expect(without == default(part, WORDS[language]), where, f"has the default {without}")
            if not isinstance(part, io.WidgetInput):
                faults.expect(kind.startswith(part.get_io_type()), where, f"has the type {kind}")


def test_a_page_has_ranges_and_choices_as_the_node_has_them(faults):
    for node_id, language in PAGES:
        items = listed(node_id, language, "inputs")
        for part in SCHEMAS[node_id].inputs:
            where = f"{node_id}, {language}, {part.id}"
            _, kind, _, text = items.get(part.id, [""] * 4)
            written = RANGE.search(kind)
            if isinstance(part, (io.Int.Input, io.Float.Input)):
                faults.expect(written, where, "has no range")
            if written:
                ends = float(written[1]), float(written[2])
                faults.expect(ends == (float(part.min), float(part.max)), where, f"has the range {ends}")
            options = getattr(part, "options", None) or ()
            if len(options) <= 4 and part.id not in ("backbone", "model_name"):  # theirs are files
                for option in options:
                    faults.expect(option in kind + text, where, f"lacks the choice {option}")


def test_a_page_has_every_output_with_its_type(faults):
    for node_id, language in PAGES:
        items, translated = listed(node_id, language, "outputs"), names(node_id, language, "outputs")
        wanted = outputs(SCHEMAS[node_id])
        faults.expect(list(items) == wanted, f"{node_id}, {language}", f"outputs are {list(items)}")
        for place, out in enumerate(wanted):
            where = f"{node_id}, {language}, {out}"
            word, kind, _, text = items.get(out, [""] * 4)
            name = None if language == "en" else translated.get(str(place), {}).get("name")
            faults.expect(kind and text, where, "has no type or text")
            faults.expect(word == name, where, f"is called {word}")


def test_no_page_has_a_table_that_the_help_panel_is_too_narrow_for(faults):
    for node_id, language in PAGES:
        for line in page(node_id, language).splitlines():
            if line.startswith("|"):
                columns = len(re.findall(r"(?<!\\)\|", line)) - 1
                faults.expect(columns <= 2, f"{node_id}, {language}", f"a table of {columns} columns: {line}")


def test_advice_is_about_inputs_and_outputs_that_the_node_has(faults):
    for node_id, language in PAGES:
        known = {part.id for part in SCHEMAS[node_id].inputs} | set(outputs(SCHEMAS[node_id]))
        for names_of_line in re.findall("^- (`[^:：]+?`)[:：]", page(node_id, language), re.M):
            for name in re.findall("`(.+?)`", names_of_line):
                faults.expect(name in known, f"{node_id}, {language}", f"advises on {name}, which it has not")


def test_a_page_shows_what_the_node_makes_or_does_in_a_picture(faults):
    for node_id, language in PAGES:
        pictures = [picture for picture, _, _ in LINK.findall(page(node_id, language)) if picture]
        faults.expect(pictures, f"{node_id}, {language}", "has no picture")


def test_links_and_pictures_exist(faults):
    for node_id, language in PAGES:
        for picture, words, address in LINK.findall(page(node_id, language)):
            where = f"{node_id}, {language}, {address}"
            faults.expect(words, where, "has no words")
            if picture:  # the panel looks for all pages' pictures in docs/
                file = DOCS / address
                faults.expect(file.is_file() and Image.open(file).width >= 400, where, "is missing or small")
            else:
                paper = re.fullmatch(r"https://arxiv\.org/abs/(\d{4}\.\d{5})", address)
                faults.expect(paper and words == f"arXiv:{paper[1]}", where, "is no arXiv paper with its number")


def test_no_picture_is_left_over():
    shown = {address for node_id, language in PAGES for _, _, address in LINK.findall(page(node_id, language))}
    assert {file.name for file in DOCS.glob("*.png")} <= shown


def test_the_english_locale_says_what_the_nodes_say(faults):
    english = locale("en")
    assert english.keys() == SCHEMAS.keys()
    for node_id, schema in SCHEMAS.items():
        node = english[node_id]
        inputs, outs = node["inputs"], node.get("outputs", {})
        faults.expect(node["display_name"] == schema.display_name, node_id, "has another name")
        faults.expect(list(inputs) == [part.id for part in schema.inputs], node_id, "has other inputs")
        faults.expect([part["name"] for part in inputs.values()] == list(inputs), node_id, "calls inputs otherwise")
        faults.expect(list(outs) == [str(n) for n in range(len(schema.outputs))], node_id, "has other outputs")
        faults.expect([out["name"] for out in outs.values()] == outputs(schema), node_id, "calls outputs otherwise")


def test_chinese_descriptions_and_tooltips_are_chinese(faults):
    for node_id, node in locale("zh").items():
        parts = [*node.get("inputs", {}).values(), *node.get("outputs", {}).values()]
        texts = [node.get("description"), *(part.get("tooltip") for part in parts)]
        for text in filter(None, texts):
            faults.expect(CHINESE.search(text), node_id, f"not Chinese: {text}")
            ascii_mark = re.search("[\u4e00-\u9fff][,;:?!]", text)
            faults.expect(not ascii_mark, node_id, f"ASCII punctuation after Chinese: {text}")


def test_the_page_s_translator_reads_no_syntax_of_its_own_in_a_text(faults):
    """vue-i18n takes @, braces and bars for links, placeholders and plurals."""
    for language in LANGUAGES:
        for text in _texts(locale(language)):
            faults.expect(not re.search("[@{}|]", text), language, text)


def _texts(node):
    return [node] if isinstance(node, str) else [text for value in node.values() for text in _texts(value)]


# ---- The generator ----


@pytest.fixture
def copy(tmp_path):
    """README, pages and locales, to be changed."""
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(DOCS, tmp_path / "web" / "docs")
    shutil.copytree(ROOT / "locales", tmp_path / "locales")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "models.md", tmp_path / "docs")
    return tmp_path


def test_a_new_input_is_written_into_names_and_lists_and_is_missing_in_chinese_only(copy):
    part = io.Int.Input("tests_own", default=2, min=0, max=9, tooltip="Silence between repeats.")
    schemas = {**SCHEMAS, "SaFaSaveLoop": _longer(SCHEMAS["SaFaSaveLoop"], part)}
    files, faults = generate(copy, schemas)
    assert not faults
    changed = drifted(files)
    assert {file.relative_to(copy).as_posix() for file in changed} == {
        "locales/en/nodeDefs.json",
        "web/docs/SaFaSaveLoop.md",
        "web/docs/SaFaSaveLoop/zh.md",
    }
    for file in changed:
        file.write_text(files[file], encoding="utf-8")
    page = (copy / "web/docs/SaFaSaveLoop.md").read_text(encoding="utf-8")
    assert "- **`tests_own`** (whole number, 0 to 9; default 2): Silence between repeats.\n\n<!-- end of inputs" in page
    chinese = (copy / "web/docs/SaFaSaveLoop/zh.md").read_text(encoding="utf-8")
    assert "- **`tests_own`**（整数，0 到 9；默认 2）：Silence between repeats.\n" in chinese
    assert not drifted(generate(copy, schemas)[0])
    assert set(chinese_gaps(copy, schemas)) - set(chinese_gaps(ROOT, SCHEMAS)) == {
        "SaFaSaveLoop, inputs: no name of tests_own in locales/zh",
        "SaFaSaveLoop, inputs: no tooltip of tests_own in locales/zh",
    }


def _longer(schema, part):
    return io.Schema(
        node_id=schema.node_id,
        display_name=schema.display_name,
        description=schema.description,
        inputs=[*schema.inputs, part],
        outputs=schema.outputs,
    )


def test_a_node_without_chinese_texts_is_no_fault_and_one_without_an_english_page_is(copy):
    shutil.rmtree(copy / "web" / "docs" / "SaFaSaveLoop")
    chinese = locale("zh")
    del chinese["SaFaSaveLoop"]
    (copy / "locales" / "zh" / "nodeDefs.json").write_text(json.dumps(chinese), encoding="utf-8")
    files, faults = generate(copy, SCHEMAS)
    assert not faults and not drifted(files)
    assert "SaFaSaveLoop: no page web/docs/SaFaSaveLoop/zh.md" in chinese_gaps(copy, SCHEMAS)
    (copy / "web" / "docs" / "SaFaSaveLoop.md").unlink()
    assert generate(copy, SCHEMAS)[1] == ["web/docs/SaFaSaveLoop.md is missing: write it after another node's page"]


def test_an_outdated_chinese_text_is_a_gap(copy):
    chinese = locale("zh")
    chinese["SaFaSaveLoop"]["inputs"]["gone"] = {"name": "x", "tooltip": "x"}
    chinese["SaFaGone"] = {"display_name": "x"}
    (copy / "locales" / "zh" / "nodeDefs.json").write_text(json.dumps(chinese), encoding="utf-8")
    gaps = chinese_gaps(copy, SCHEMAS)
    assert "SaFaSaveLoop, inputs: gone in locales/zh, but not in the node" in gaps
    assert "SaFaGone: in locales/zh, but there is no such node" in gaps


def test_generated_text_goes_between_its_marks_and_a_page_without_them_is_told():
    begin, end = marks("inputs")
    assert put(f"a\n{begin}\nold\n{end}\nb", "inputs", "new") == f"a\n{begin}\n\nnew\n\n{end}\nb"
    for text in ("no marks", begin, f"{end} {begin}"):
        with pytest.raises(ValueError, match="where inputs belong"):
            put(text, "inputs", "new")
