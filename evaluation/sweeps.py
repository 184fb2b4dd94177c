"""The sweeps of the guidance rate and of the swap interval as a plot (Figs. 8 and 9 in figures instead of pictures)."""

from __future__ import annotations

from pathlib import Path

SWEPT = {"rate": "guidance rate", "interval": "swap interval (columns)"}
PANELS = (
    ("similarity", "similarity of windows that share nothing"),
    ("within", "distance between the views' latents"),
    ("fd", "Fréchet distance"),
    ("accuracy", "recognised"),
)


def points(lines: list[dict], name: str) -> list[dict]:
    """The lines of one sweep in its order."""
    return sorted((line for line in lines if name in line), key=lambda line: line[name])


def draw(path: Path, lines: list[dict]) -> list[Path]:
    """A row of panels per sweep; the line of the single windows is dotted. Returns the files written."""
    swept = [name for name in SWEPT if points(lines, name)]
    if not swept:
        return []
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.2 * len(swept)), layout="constrained")
    for row, name in zip(figure.subplots(len(swept), len(PANELS), squeeze=False), swept, strict=True):
        own = points(lines, name)
        single = next(
            line for line in lines if line.get("method") == "single" and line["protocol"] == own[0]["protocol"]
        )
        for axis, (key, title) in zip(row, PANELS, strict=True):
            axis.plot([line[name] for line in own], [line[key] for line in own], marker="o")
            if key in single:
                axis.axhline(single[key], color="0.5", linestyle=":", label="single windows")
                axis.legend(fontsize=7)
            axis.set(title=title, xlabel=SWEPT[name])
            axis.grid(alpha=0.25)
        if name == "interval":
            for axis in row:
                axis.set_xscale("log", base=2)
                axis.set_xticks([line[name] for line in own], [str(line[name]) for line in own])
    figure.savefig(path, dpi=110)
    return [path]
