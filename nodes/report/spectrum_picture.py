"""Fig. 2(b) as a picture: spectra of overlaps and middles, steps at the views' borders, and both while sampling."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...safa_core.measures.spectrum import Measured, relative, top_third
from ..canvas import Canvas
from ..palette import BACK, FAINT, INK, MIDDLE, OVERLAP, REFERENCE, SEAM

WIDTH, HEIGHT, DPI = 12.8, 4.4, 100  # inches of a row, pixels per inch


def spectrum_picture(canvas: Canvas, found: Measured, reference: torch.Tensor | None, steps) -> torch.Tensor:
    """Draw it: [1, 440 or 880, 1280, 3], 0 to 1.

    canvas: the plan. reference: a spectrum [bins] to compare with too. steps: recorded steps, in their order; they
    add a row.
    """
    rows = 2 if steps else 1
    figure = Figure((WIDTH, rows * HEIGHT), DPI, facecolor=BACK, layout="constrained")
    agg = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 3, squeeze=False)
    curves = _curves_of(found, reference)
    _relative(axes[0, 0], curves)
    _against(axes[0, 1], curves)
    _seams(axes[0, 2], canvas, found)
    if steps:
        _steps(axes[1], steps)
    for axis in axes.flat:
        _dress(axis)
    agg.draw()
    pixels = np.asarray(agg.buffer_rgba())[..., :3].astype(np.float32) / 255
    return torch.from_numpy(pixels).unsqueeze(0)


def _curves_of(found: Measured, reference) -> list[tuple[str, str, torch.Tensor]]:
    """(label, colour, [bins] dB) of each curve, the overlaps' last."""
    curves = [] if found.middle is None else [("middles", MIDDLE, found.middle.mean(0))]
    curves += [] if reference is None else [("reference", REFERENCE, reference)]
    return curves + ([] if found.overlap is None else [("overlaps", OVERLAP, found.overlap.mean(0))])


def _frequency(curve: torch.Tensor) -> list[float]:
    """The middle of each bin, Nyquist being 1."""
    return ((torch.arange(len(curve)) + 0.5) / len(curve)).tolist()


def _relative(axes, curves) -> None:
    axes.set_title("relative log amplitude (Fig. 2b)")
    axes.set(xlabel="frequency / Nyquist, per latent cell", ylabel="dB from the lowest frequency")
    for label, colour, curve in curves:
        axes.plot(_frequency(curve), relative(curve).tolist(), color=colour, label=label)
    if not curves:
        _say(axes, "no overlap wide enough for a spectrum")


def _against(axes, curves) -> None:
    axes.set_title("overlaps minus the others, absolute")
    axes.set(xlabel="frequency / Nyquist, per latent cell", ylabel="dB")
    for label, colour, curve in curves[:-1]:
        axes.plot(_frequency(curve), (curves[-1][2] - curve).tolist(), color=colour, label=f"minus {label}")
    if len(curves) < 2:
        _say(axes, "nothing to compare the overlaps with")
    else:
        axes.axhline(0, color=FAINT, lw=1, ls="--")
        bins = len(curves[-1][2])
        axes.axvspan(top_third(bins).start / bins, 1, color=INK, alpha=0.07, lw=0)


def _seams(axes, canvas: Canvas, found: Measured) -> None:
    axes.set_title("step at each border of a view, 1 = no seam")
    unit = canvas.unit if canvas.unit != "latent" else "latent columns"
    axes.set(xlabel=f"where, in {unit}", ylabel="times the steps beside it")
    places = [column * canvas.scale for column in found.seams.columns]
    if places:
        axes.vlines(places, 1, found.seams.scores, color=SEAM, lw=1.5)
        axes.plot(places, found.seams.scores, "o", color=SEAM, ms=4, label="borders")
    if found.seams.closing is not None:
        axes.plot([0], [found.seams.closing], "D", color=INK, ms=6, label="the loop's end")
    axes.axhline(1, color=FAINT, lw=1, ls="--")
    axes.set_xlim(-0.02 * canvas.plan.length * canvas.scale, canvas.plan.length * canvas.scale)


def _steps(axes, steps) -> None:
    """Middles against overlaps while sampling: by frequency, by step, and the seams."""
    numbers = [step.number for step in steps]
    compared = [(step.number, step.measured) for step in steps if step.measured.middle is not None]
    axes[0].set_title("overlaps minus middles while sampling")
    axes[0].set(xlabel="frequency / Nyquist, per latent cell", ylabel="dB, dark: early, light: late")
    axes[1].set_title("high-frequency deficit while sampling")
    axes[1].set(xlabel="step", ylabel="dB")
    axes[2].set_title("seam score while sampling")
    axes[2].set(xlabel="step", ylabel="1 = no seam")
    for axis in axes[1:]:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for i, (_, measured) in enumerate(compared):
        colour = colormaps["plasma"](0.1 + 0.85 * i / max(1, len(compared) - 1))
        difference = (measured.overlap - measured.middle).mean(0)
        axes[0].plot(_frequency(difference), difference.tolist(), color=colour, lw=1)
    if compared:
        deficits = [measured.deficit() for _, measured in compared]
        for name, colour in (("relative", MIDDLE), ("absolute", OVERLAP)):
            values = [float(deficit[name].mean()) for deficit in deficits]
            axes[1].plot([number for number, _ in compared], values, "o-", ms=3, color=colour, label=name)
    else:
        _say(axes[0], "no middles to compare with")
        _say(axes[1], "no middles to compare with")
    if steps[0].measured.seams.score is not None:
        axes[2].plot(numbers, [s.measured.seams.score for s in steps], "o-", ms=3, color=SEAM, label="borders")
    if steps[0].measured.seams.closing is not None:
        values = [s.measured.seams.closing for s in steps]
        axes[2].plot(numbers, values, "D-", ms=3, color=INK, label="the loop's end")


def _say(axes, text: str) -> None:
    axes.text(0.5, 0.5, text, color=FAINT, ha="center", va="center", transform=axes.transAxes)


def _dress(axes) -> None:
    axes.set_facecolor(BACK)
    axes.tick_params(colors=INK)
    axes.grid(color=FAINT, alpha=0.2)
    for part in (axes.title, axes.xaxis.label, axes.yaxis.label):
        part.set_color(INK)
    axes.title.set_fontsize(10)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, facecolor=BACK, edgecolor=FAINT, labelcolor=INK)
