"""A protocol's table as text and as a picture, sweeps as plots (Figs. 5, 8, 9) and spectra as curves (Fig. 2b)."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from textwrap import wrap

import torch

from .protocol import SEPARATOR, Protocol
from .scores import SCORES

DPI = 130
Groups = list[dict]  # as report.write takes them


class Table:
    """Groups side by side as text.

    head, rows: its cells. notes: what it says in place of values. best: (row, column) of the best value of each column
    whose standard errors are not known, the single windows left out.
    """

    def __init__(self, groups: Groups):
        self.groups = groups
        self.titles: list[str] = []
        for group in groups:
            self.titles += [line["row"] for line in group["lines"] if line["row"] not in self.titles]
        self.head = ["Method"]
        self.rows = [[title] for title in self.titles]
        self.notes: list[str] = []
        self.best: set[tuple[int, int]] = set()
        for group in groups:
            for name, title in group["columns"].items():
                self._add(group, name, title)

    def _add(self, group: dict, name: str, title: str) -> None:
        lines = {line["row"]: line for line in group["lines"]}
        known: dict[int, float] = {}
        errors = [line["errors"].get(name) for line in group["lines"]]
        for i, row in enumerate(self.titles):
            line = lines.get(row, {"scores": {}, "errors": {}, "missing": {}})
            value = line["scores"].get(name)
            self.rows[i].append(self._text(name, value, line["errors"].get(name), line["missing"].get(name)))
            if value is not None and line["method"] != "single":
                known[i] = value
        better = SCORES[name].better if name in SCORES else ""
        if better and len(known) > 1 and errors.count(None) == len(errors):
            wanted = min(known.values()) if better == "lower" else max(known.values())
            self.best |= {(i, len(self.head)) for i, value in known.items() if value == wanted}
        self.head.append(title)

    def _text(self, name: str, value: float | None, error: float | None, why: str | None) -> str:
        if value is not None:
            return f"{value:.2f}" if SEPARATOR in name else SCORES[name].written(value, error)
        if why is None:
            return "–"
        if why not in self.notes:
            self.notes.append(why)
        word = "no weights" if "no weights" in why else "none"
        return f"{word} [{self.notes.index(why) + 1}]"

    def named_head(self) -> list[str]:
        """The head with each model's name at its first column, where there are several."""
        head = list(self.head)
        at = 1
        for group in self.groups if len(self.groups) > 1 else []:
            head[at] = f"{group['model']}: {head[at]}"
            at += len(group["columns"])
        return head

    def marked(self) -> list[list[str]]:
        """The rows in Markdown, the best in bold."""
        rows = [list(row) for row in self.rows]
        for i, j in self.best:
            rows[i][j] = f"**{rows[i][j]}**"
        return rows


def draw(folder: Path, chapters: list[tuple[Protocol, Groups]], pictures: list[tuple[str, Path]]) -> list[Path]:
    """All pictures: a sweep's plot, curves of the protocols that have spectra, else the table."""
    paths = []
    curved = []
    for protocol, groups in chapters:
        path = folder / f"{protocol.name}.png"
        if protocol.axes:
            draw_sweeps(path, protocol, groups[-1], pictures)
        elif any("curves" in line for line in groups[-1]["lines"]):
            curved.append((protocol, groups[-1]))
            continue
        else:
            draw_table(path, protocol, groups)
        paths.append(path)
    if curved:
        paths.append(folder / "pocket_spectrum.png")
        draw_spectra(paths[-1], curved)
    return paths


def draw_table(path: Path, protocol: Protocol, groups: Groups) -> None:
    """The table as a picture, models side by side."""
    from matplotlib.figure import Figure

    table = Table(groups)
    body = [table.head, *table.rows]
    widths = [max(map(len, column)) + 2 for column in zip(*body, strict=True)]
    ends = list(accumulate(widths))
    notes: list[str] = []
    for i, text in enumerate(table.notes, 1):
        notes += wrap(f"[{i}] {text}", max(60, ends[-1] * 5 // 4))
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
            pink = {"facecolor": "#f8d7e6", "edgecolor": "none", "pad": 1.5} if (i - 1, j) in table.best else None
            middle = ends[j] - widths[j] / 2
            axes.text(middle, i + 2.5, text, fontsize=9, ha="center", va="center", bbox=pink)
    for y in (1.0, 3.0, len(body) + 2.0):
        axes.plot((0, ends[-1]), (y, y), color="black", linewidth=1)
    for i, text in enumerate(notes):
        axes.text(0, len(body) + 2.5 + 0.8 * i, text, fontsize=7, va="center")
    figure.savefig(path, dpi=DPI)


def draw_sweeps(path: Path, protocol: Protocol, group: dict, pictures: list[tuple[str, Path]]) -> None:
    """A row of panels per axis, dotted where single windows are; or the first canvas of every row below each other, as
    the paper's figures show them, and the scores beside them."""
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    known = {}
    for name in protocol.panels or group["columns"]:
        if name in group["columns"] and any(_has(line, name) for line in group["lines"]):
            known[name] = group["columns"][name]
    if not pictures:
        figure = Figure(figsize=(13, 3.2 * len(protocol.axes)), layout="constrained")
        for row, axis in zip(
            figure.subplots(len(protocol.axes), max(1, len(known)), squeeze=False), protocol.axes, strict=True
        ):
            _panels(row, protocol, axis, group["lines"], known)
        return figure.savefig(path, dpi=DPI)
    figure = Figure(figsize=(12, 1.3 + 1.25 * max(len(pictures), len(known))), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 1)) if known else (figure, None)
    left.suptitle(f"{protocol.title} ({group['model']})", fontsize=10)
    for axes, (title, file) in zip(left.subplots(len(pictures), 1, squeeze=False)[:, 0], pictures, strict=True):
        axes.imshow(imread(file), aspect="auto", cmap="gray")
        axes.set_ylabel(title, fontsize=7)
        axes.set(xticks=[], yticks=[])
    if right is not None:
        _panels(
            right.subplots(len(known), 1, squeeze=False)[:, 0],
            protocol,
            next(iter(protocol.axes)),
            group["lines"],
            known,
        )
    figure.savefig(path, dpi=DPI)


def _has(line: dict, name: str) -> bool:
    return line["scores"].get(name) is not None


def points(lines: list[dict], axis: str) -> list[dict]:
    """The lines of a sweep in its order."""
    swept = [line for line in lines if line["method"] != "single"]
    swept = [line for line in swept if line["sweeps"] is None or axis in line["sweeps"]]
    return sorted(swept, key=lambda line: line[axis])


def _panels(panels, protocol: Protocol, axis: str, lines: list[dict], known: dict[str, str]) -> None:
    single = next((line for line in lines if line["method"] == "single"), None)
    for axes, (name, title) in zip(panels, known.items(), strict=True):
        swept = [line for line in points(lines, axis) if _has(line, name)]
        axes.plot([line[axis] for line in swept], [line["scores"][name] for line in swept], marker="o")
        if single is not None and _has(single, name):
            axes.axhline(single["scores"][name], color="0.5", linestyle=":", label="single windows")
            axes.legend(fontsize=7)
        axes.set(xlabel=protocol.axes[axis], ylabel=title)
        axes.grid(alpha=0.25)
        if axis == "interval":
            ticks = [line[axis] for line in swept]
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [str(tick) for tick in ticks])


def draw_spectra(path: Path, chapters: list[tuple[Protocol, dict]]) -> None:
    """Fig. 2(b) by protocol: relative curves of overlaps, and what they lose against their canvases' middles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8 * len(chapters)), layout="constrained")
    for (left, right), (protocol, group) in zip(
        figure.subplots(len(chapters), 2, squeeze=False), chapters, strict=True
    ):
        for line in group["lines"]:
            if "middle" in line.get("curves", {}):
                _curves(left, right, line)
        left.set(title=protocol.title, ylabel="log amplitude, relative (dB)", xlabel="frequency (π)")
        right.set(title="overlap minus middle", ylabel="log amplitude (dB)", xlabel="frequency (π)")
        right.axhline(0, color="0.6", linewidth=0.8)
        for axes in (left, right):
            axes.grid(alpha=0.25)
            axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _curves(left, right, line: dict) -> None:
    overlap = torch.tensor(line["curves"]["overlap"])
    middle = torch.tensor(line["curves"]["middle"])
    frequency = (torch.arange(len(overlap)) + 0.5) / len(overlap)  # the middle of each bin
    style = {"label": line["row"]}
    if line["method"] == "single":
        style = {"label": "single windows, borders", "color": "0.5", "linestyle": ":"}
        left.plot(frequency, middle - middle[0], color="black", label="single windows, middles")
    left.plot(frequency, overlap - overlap[0], **style)
    right.plot(frequency, overlap - middle, **style)
