"""The results of protocols: tables in Markdown, in JSON lines and as pictures, in the paper's layout."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import torch

from . import claims, drawing
from .protocol import Protocol, load
from .scores import SCORES

CHANGES = "What the Fréchet distance sees of changes that are put into single windows on purpose"
STEPS = "The absolute deficit against the same canvases' middles before some steps"
COSTS = ["Method", "views", "canvases", "windows per canvas", "s per canvas"]


def machine(device: torch.device | None = None) -> str:
    """Processor, threads and torch, and the GPU where one computed."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or platform.machine()
    text = f"{processor} ({platform.system()}), {torch.get_num_threads()} of {os.cpu_count()} cores"
    gpu = f"{torch.cuda.get_device_name(device)}, " if device and device.type == "cuda" else ""
    return f"{gpu}{text}, torch {torch.__version__}"


def write(folder: Path, name: str, groups: list[dict], pictures: list[tuple[str, Path]]) -> list[Path]:
    """<name>.jsonl and .md, and a picture of every table, figure or set of curves.

    groups: one per protocol and model, {"protocol", "model", "columns": {score: title}, "details": {title: columns},
    "lines": summary.lines, "facts": {"command", "machine", "sentences": sentences, "controls": [{"change", "fd"}]}}.
    pictures: (title, file) of the first canvas of every row, for figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / f"{name}.jsonl"
    kept = []
    for group in groups:
        place = {"protocol": group["protocol"], "model": group["model"]}
        kept.append({key: value for key, value in group.items() if key != "lines"})
        kept += [place | line for line in group["lines"]]
    text = [json.dumps(rounded(line), ensure_ascii=False) + "\n" for line in kept]
    raw.write_text("".join(text), encoding="utf-8")
    page = folder / f"{name}.md"
    page.write_text(markdown(read_groups(raw)), encoding="utf-8")
    return [page, raw, *drawing.draw(folder, by_protocol(groups), pictures)]


def rounded(value):
    """Six significant digits: what comes after them changes with the number of threads."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list) else value


def read_groups(path: Path) -> list[dict]:
    """The groups of a results file, [] where there is none."""
    groups: list[dict] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        content = json.loads(line)
        if "facts" in content:
            groups.append(content | {"lines": []})
        else:
            groups[-1]["lines"].append(content)
    return groups


def by_protocol(groups: list[dict]) -> list[tuple[Protocol, list[dict]]]:
    """The groups of each protocol, models side by side."""
    sorted_groups: dict[str, list[dict]] = {}
    for group in groups:
        sorted_groups.setdefault(group["protocol"], []).append(group)
    return [(load(name), models) for name, models in sorted_groups.items()]


def markdown(groups: list[dict]) -> str:
    """The page: a chapter per protocol."""
    chapters = [_chapter(protocol, models) for protocol, models in by_protocol(groups)]
    return "\n\n".join(chapters) + "\n"


def _chapter(protocol: Protocol, groups: list[dict]) -> str:
    table = drawing.Table(groups)
    text = [
        f"# {protocol.title}",
        "",
        f"Paper: {protocol.source}. Columns and rows in its order; the best in bold.",
        "",
    ]
    text += markdown_table(table.named_head(), table.marked()) if table.rows else ["No seed is finished."]
    text += [f"\n[{number}] {sentence}" for number, sentence in enumerate(table.notes, 1)]
    claimed = claims.rows(protocol, groups[-1]["lines"])
    if claimed:
        text += ["", *markdown_table(claims.HEAD, claimed)]
    for group in groups:
        text += ["", *_details(group)]
    if protocol.unstated:
        text += ["", "## What the paper does not say, and what is done here", ""]
        text += [f"- {sentence}" for sentence in protocol.unstated]
    return "\n".join(text)


def _details(group: dict) -> list[str]:
    """Of one model: how it was made, further tables and what each row took."""
    facts = group["facts"]
    text = [f"## {group['model']}", "", f"Made by `{facts['command']}` on {facts['machine']}.", ""]
    text += [f"- {sentence}" for sentence in facts["sentences"]]
    for title, columns in group["details"].items():
        table = drawing.Table([group | {"columns": columns}])
        text += ["", f"{title}:", "", *markdown_table(table.head, table.rows)]
    if facts.get("controls"):
        rows = [[control["change"], f"{control['fd']:.3g}"] for control in facts["controls"]]
        text += ["", f"{CHANGES}:", "", *markdown_table(["change", "FD"], rows)]
    text += _steps(group["lines"])
    return [*text, "", *markdown_table(COSTS, [_costs(line) for line in group["lines"]])]


def _costs(line: dict) -> list[str]:
    """What a row took; windows are evaluations of the model on one window, guided and unguided counted apart."""
    return [
        line["row"],
        f"{line['views']}",
        f"{line['canvases']}",
        f"{line['evaluations']:.0f}",
        f"{line['seconds']:.2f}",
    ]


def _steps(lines: list[dict]) -> list[str]:
    recorded = [line for line in lines if line.get("steps")]
    if not recorded:
        return []
    steps = sorted(recorded[0]["steps"], key=int)
    rows = []
    for line in recorded:
        values = [SCORES["deficit_absolute"].written(*line["steps"][step]) for step in steps]
        rows.append([line["row"], *values])
    return ["", f"{STEPS}:", "", *markdown_table(["step", *steps], rows)]


def markdown_table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table."""
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
