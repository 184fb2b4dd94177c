"""The results of a protocol: its table in Markdown, as a picture and in JSON lines, in the paper's layout."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import wrap

from ..report import _rounded, table
from ..scores import SCORES
from .config import PaperProtocol

DPI = 130


def write(folder: Path, protocol: PaperProtocol, groups: list[dict], pictures: list[tuple[str, Path]]) -> list[Path]:
    """<protocol>.jsonl, .md and .png.

    groups: one per model, {"model", "columns": {score: title}, "lines": summary.lines, "facts": {...}}.
    pictures: (title, file) of the first canvas of every row, for figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw, page, picture = (folder / f"{protocol.name}.{ending}" for ending in ("jsonl", "md", "png"))
    kept = []
    for group in groups:
        own = {"protocol": protocol.name, "model": group["model"]}
        kept.append(own | {"facts": group["facts"], "columns": group["columns"]})
        kept += [own | line for line in group["lines"]]
    raw.write_text("".join(json.dumps(_rounded(line), ensure_ascii=False) + "\n" for line in kept), encoding="utf-8")
    page.write_text(markdown(protocol, groups), encoding="utf-8")
    if protocol.axis is None:
        draw_table(picture, protocol, groups)
    else:
        draw_sweep(picture, protocol, groups[-1], pictures)
    return [page, picture, raw]


def read_groups(path: Path) -> list[dict]:
    """The groups of a results file, [] where there is none."""
    groups: list[dict] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        content = json.loads(line)
        if "facts" in content:
            groups.append({"model": content["model"], "columns": content["columns"], "facts": content["facts"]})
            groups[-1]["lines"] = []
        else:
            groups[-1]["lines"].append(content)
    return groups


def cells(groups: list[dict]) -> tuple[list[str], list[list[str]], list[str], set[tuple[int, int]]]:
    """(head, rows, sentences, places of the best values): the table, and what it says in place of values."""
    titles = list(dict.fromkeys(line["row"] for group in groups for line in group["lines"]))
    head, rows, said, best = ["Method"], [[title] for title in titles], [], set()
    for group in groups:
        by_row = {line["row"]: line for line in group["lines"]}
        for name, title in group["columns"].items():
            head.append(title)
            values = [by_row.get(row, {}).get("scores", {}).get(name) for row in titles]
            reasons = [by_row.get(row, {}).get("missing", {}).get(name) for row in titles]
            best |= {(i, len(head) - 1) for i in _best(group, titles, values, SCORES[name].better)}
            for row, value, why in zip(rows, values, reasons, strict=True):
                row.append(_shown(value, why, said))
    return head, rows, said, best


def _shown(value: float | None, why: str | None, said: list[str]) -> str:
    if value is not None:
        return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3g}"
    if why is None:
        return "–"
    if why not in said:
        said.append(why)
    word = "no weights" if "no weights" in why else "none"
    return f"{word} [{said.index(why) + 1}]"


def _best(group: dict, titles: list[str], values: list[float | None], better: str) -> list[int]:
    """The rows with the best value, the reference left out; none where there is nothing to compare."""
    alone = {line["row"] for line in group["lines"] if line["method"] == "single"}
    known = {i: v for i, (v, row) in enumerate(zip(values, titles, strict=True)) if v is not None and row not in alone}
    if len(known) < 2:
        return []
    wanted = (min if better == "lower" else max)(known.values())
    return [i for i, value in known.items() if value == wanted]


def markdown(protocol: PaperProtocol, groups: list[dict]) -> str:
    """The page."""
    head, rows, said, best = cells(groups)
    shown = [[f"**{text}**" if (i, j) in best else text for j, text in enumerate(row)] for i, row in enumerate(rows)]
    if len(groups) > 1:  # the paper sets models side by side
        at = 1
        for group in groups:
            head[at] = f"{group['model']}: {head[at]}"
            at += len(group["columns"])
    text = [
        f"# {protocol.title}",
        "",
        f"Paper: {protocol.source}. Columns and rows in its order; the best in bold.",
        "",
    ]
    text += table(head, shown) if rows else ["No seed is finished."]
    text += ["", *(f"[{number}] {sentence}  " for number, sentence in enumerate(said, 1))]
    for group in groups:
        facts = group["facts"]
        text += ["", f"## {group['model']}", "", f"Made by `{facts['command']}` on {facts['machine']}.", ""]
        text += [f"- {sentence}" for sentence in facts["said"]]
        text += ["", *table(["Method", "views", "canvases", "windows per canvas", "s per canvas"], _costs(group))]
    text += ["", "## What the paper does not say, and what is done here", ""]
    text += [f"- {sentence}" for sentence in protocol.unstated]
    return "\n".join(text) + "\n"


def _costs(group: dict) -> list[list[str]]:
    """What each row took; windows are evaluations of the model on one window, guided and unguided counted apart."""
    return [
        [line["row"], f"{line['views']}", f"{line['canvases']}", f"{line['evaluations']:.0f}", f"{line['seconds']:.2f}"]
        for line in group["lines"]
    ]


def draw_table(path: Path, protocol: PaperProtocol, groups: list[dict]) -> None:
    """The table as a picture, models side by side."""
    from matplotlib.figure import Figure

    head, rows, said, best = cells(groups)
    body = [head, *rows]
    widths = [max(len(line[j]) for line in body) + 2 for j in range(len(head))]
    ends = [sum(widths[: j + 1]) for j in range(len(widths))]
    notes = [line for i, text in enumerate(said, 1) for line in wrap(f"[{i}] {text}", max(60, ends[-1] * 5 // 4))]
    height = len(body) + 2.5 + 0.8 * len(notes)
    figure = Figure(figsize=(max(6, 0.095 * ends[-1]), 0.27 * height))
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96), xlim=(0, ends[-1]), ylim=(height, 0))
    axes.axis("off")
    axes.text(0, 0.5, protocol.title, fontsize=9, weight="bold", va="center")
    at = 1
    for group in groups:
        first, last = ends[at - 1], ends[at + len(group["columns"]) - 1]
        axes.text((first + last) / 2, 1.5, group["model"], fontsize=9, ha="center", va="center")
        axes.plot((first + 1, last - 1), (1.95, 1.95), color="black", linewidth=0.6)
        at += len(group["columns"])
    for i, line in enumerate(body):
        for j, text in enumerate(line):
            pink = {"facecolor": "#f8d7e6", "edgecolor": "none", "pad": 1.5} if (i - 1, j) in best else None
            middle = ends[j] - widths[j] / 2
            axes.text(middle, i + 2.5, text, fontsize=9, ha="center", va="center", bbox=pink)
    for y in (1.0, 3.0, len(body) + 2.0):
        axes.plot((0, ends[-1]), (y, y), color="black", linewidth=1)
    for i, text in enumerate(notes):
        axes.text(0, len(body) + 2.5 + 0.8 * i, text, fontsize=7, va="center")
    figure.savefig(path, dpi=DPI)


def draw_sweep(path: Path, protocol: PaperProtocol, group: dict, pictures: list[tuple[str, Path]]) -> None:
    """The first canvas of every row below each other, as the paper's figures show them, and the scores beside them."""
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    known = {
        name: title
        for name, title in group["columns"].items()
        if any(line["scores"].get(name) is not None for line in group["lines"])
    }
    field, words = protocol.axis
    figure = Figure(figsize=(12, 1.3 + 1.25 * max(len(pictures), len(known), 1)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 1)) if known else (figure, None)
    left.suptitle(f"{protocol.title} ({group['model']})", fontsize=10)
    for axes, (title, file) in zip(
        left.subplots(max(1, len(pictures)), 1, squeeze=False)[:, 0], pictures, strict=False
    ):
        axes.imshow(imread(file), aspect="auto", cmap="gray")
        axes.set_ylabel(title, fontsize=7)
        axes.set(xticks=[], yticks=[])
    if right is not None:
        for axes, (name, title) in zip(right.subplots(len(known), 1, squeeze=False)[:, 0], known.items(), strict=True):
            points = [(line[field], line["scores"][name]) for line in group["lines"]]
            points = [point for point in points if point[1] is not None]
            axes.plot(*zip(*points, strict=True), marker="o")
            axes.set(xlabel=words, ylabel=title)
            axes.grid(alpha=0.25)
    figure.savefig(path, dpi=DPI)
