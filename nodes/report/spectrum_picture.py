"""Fig. 2(b) as a picture: spectra of overlaps and middles, steps at the views' borders, and both while sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...safa_core.measures.spectrum import Measured, Seams, relative, top_third
from ..canvas import Canvas
from ..palette import BACK, FAINT, INK, MIDDLE, OVERLAP, REFERENCE, SEAM
from .record_steps import Step

if TYPE_CHECKING:  # matplotlib is imported where it draws: it takes a second, which ComfyUI's start need not wait for
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 12.8, 4.4  # inches of a row of three plots
DPI = 100  # pixels per inch

Curve = tuple[str, str, torch.Tensor]  # label, colour, [bins] in dB


def spectrum_picture(
    canvas: Canvas, measured: Measured, reference: torch.Tensor | None, steps: Sequence[Step]
) -> torch.Tensor:
    """Draw spectra and seams: [1, 440 or 880, 1280, 3], 0 to 1.

    measured: of the canvas. reference: a spectrum [bins] to compare with too. steps: recorded steps, in their order;
    they add a row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = 2 if steps else 1
    figure = Figure((WIDTH, rows * HEIGHT), DPI, facecolor=BACK, layout="constrained")
    agg = FigureCanvasAgg(figure)
    axes: Any = figure.subplots(rows, 3, squeeze=False)
    curves = _list_curves(measured, reference)
    _draw_spectra(axes[0, 0], curves)
    _draw_differences(axes[0, 1], curves)
    _draw_seams(axes[0, 2], canvas, measured.seams)
    if steps:
        _draw_steps(axes[1], steps)
    for axis in axes.flat:
        _style(axis)
    agg.draw()
    pixels = np.asarray(agg.buffer_rgba())[..., :3].astype(np.float32) / 255
    return torch.from_numpy(pixels).unsqueeze(0)


def _list_curves(measured: Measured, reference: torch.Tensor | None) -> list[Curve]:
    """All curves there are, the overlaps' last."""
    curves = []
    if measured.middle is not None:
        curves.append(("middles", MIDDLE, measured.middle.mean(0)))
    if reference is not None:
        curves.append(("reference", REFERENCE, reference))
    if measured.overlap is not None:
        curves.append(("overlaps", OVERLAP, measured.overlap.mean(0)))
    return curves


def _frequency(curve: torch.Tensor) -> list[float]:
    """The middle of each bin, Nyquist being 1."""
    return ((torch.arange(len(curve)) + 0.5) / len(curve)).tolist()


def _draw_spectra(axes: Axes, curves: list[Curve]) -> None:
    axes.set_title("relative log amplitude (Fig. 2b)")
    axes.set(xlabel="frequency / Nyquist, per latent cell", ylabel="dB from the lowest frequency")
    for label, colour, curve in curves:
        axes.plot(_frequency(curve), relative(curve).tolist(), color=colour, label=label)
    if not curves:
        _write(axes, "no overlap wide enough for a spectrum")


def _draw_differences(axes: Axes, curves: list[Curve]) -> None:
    axes.set_title("overlaps minus the others, absolute")
    axes.set(xlabel="frequency / Nyquist, per latent cell", ylabel="dB")
    for label, colour, curve in curves[:-1]:
        axes.plot(_frequency(curve), (curves[-1][2] - curve).tolist(), color=colour, label=f"minus {label}")
    if len(curves) < 2:
        _write(axes, "nothing to compare the overlaps with")
    else:
        axes.axhline(0, color=FAINT, lw=1, ls="--")
        bins = len(curves[-1][2])
        axes.axvspan(top_third(bins).start / bins, 1, color=INK, alpha=0.07, lw=0)


def _draw_seams(axes: Axes, canvas: Canvas, seams: Seams) -> None:
    axes.set_title("step at each border of a view, 1 = no seam")
    unit = "latent columns" if canvas.unit == "latent" else canvas.unit
    axes.set(xlabel=f"where, in {unit}", ylabel="times the steps beside it")
    places = [column * canvas.scale for column in seams.columns]
    if places:
        axes.vlines(places, 1, seams.scores, color=SEAM, lw=1.5)
        axes.plot(places, seams.scores, "o", color=SEAM, ms=4, label="borders")
    if seams.closing is not None:
        axes.plot([0], [seams.closing], "D", color=INK, ms=6, label="the loop's end")
    axes.axhline(1, color=FAINT, lw=1, ls="--")
    axes.set_xlim(-0.02 * canvas.plan.length * canvas.scale, canvas.plan.length * canvas.scale)


def _draw_steps(axes: Sequence[Axes], steps: Sequence[Step]) -> None:
    """Middles against overlaps while sampling: by frequency, by step, and the seams."""
    from matplotlib.ticker import MaxNLocator

    axes[0].set_title("overlaps minus middles while sampling")
    axes[0].set(xlabel="frequency / Nyquist, per latent cell", ylabel="dB, dark: early, light: late")
    axes[1].set_title("high-frequency deficit while sampling")
    axes[1].set(xlabel="step", ylabel="dB")
    axes[2].set_title("seam score while sampling")
    axes[2].set(xlabel="step", ylabel="1 = no seam")
    for axis in axes[1:]:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    compared = [step for step in steps if step.measured.middle is not None]
    if compared:
        _draw_step_spectra(axes[0], compared)
        _draw_deficits(axes[1], compared)
    else:
        _write(axes[0], "no middles to compare with")
        _write(axes[1], "no middles to compare with")
    numbers = [step.number for step in steps]
    seams = [step.measured.seams for step in steps]
    if seams[0].score is not None:
        axes[2].plot(numbers, [s.score for s in seams], "o-", ms=3, color=SEAM, label="borders")
    if seams[0].closing is not None:
        axes[2].plot(numbers, [s.closing for s in seams], "D-", ms=3, color=INK, label="the loop's end")


def _draw_step_spectra(axes: Axes, steps: Sequence[Step]) -> None:
    from matplotlib import colormaps

    for i, step in enumerate(steps):
        colour = colormaps["plasma"](0.1 + 0.85 * i / max(1, len(steps) - 1))
        difference = torch.sub(step.measured.overlap, step.measured.middle).mean(0)
        axes.plot(_frequency(difference), difference.tolist(), color=colour, lw=1)


def _draw_deficits(axes: Axes, steps: Sequence[Step]) -> None:
    numbers = [step.number for step in steps]
    deficits = [step.measured.deficit() for step in steps]
    for name, colour in (("relative", MIDDLE), ("absolute", OVERLAP)):
        values = [float(deficit[name].mean()) for deficit in deficits]
        axes.plot(numbers, values, "o-", ms=3, color=colour, label=name)


def _write(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, color=FAINT, ha="center", va="center", transform=axes.transAxes)


def _style(axes: Axes) -> None:
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
