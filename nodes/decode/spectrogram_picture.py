"""A spectrogram as a picture: time in seconds, frequency in Hz, loudness in dB, and the views of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...safa_core import ViewPlan
from ...safa_core.sound.mel import MelScale, hz_to_mel
from ..palette import BACK, GLOW, INK, VIEWS

if TYPE_CHECKING:  # matplotlib is imported where it draws: it takes a second, which ComfyUI's start need not wait for
    from matplotlib.axes import Axes

SIZE = (12.8, 5.4)  # inches
DPI = 100  # pixels per inch
COLUMNS = 1600  # more frames than that are averaged
DEPTH = 80  # dB from the loudest to black
FLOOR = 1e-20  # power
NUMBERED = 60  # with more views than that, neither numbers nor edges are drawn
TICKS = (200, 500, 1000, 2000, 3000, 4000, 6000, 8000, 12000, 16000, 20000)  # in Hz


class Spectrogram:
    """Power of a sound as it is decoded, kept no wider than the picture.

    length: frames of the whole sound.
    """

    def __init__(self, scale: MelScale, length: int):
        self.scale = scale
        self.length = length
        self.width = min(length, COLUMNS)
        self.power = torch.zeros(self.width, scale.bins)
        self.frames = torch.bincount(torch.arange(length) * self.width // length, minlength=self.width)

    def add(self, mel: torch.Tensor, frame: int) -> None:
        """Add the mel [n, bins] of the frames from `frame` on, around the ring."""
        column = (frame + torch.arange(len(mel))) % self.length * self.width // self.length
        self.power.index_add_(0, column, self.scale.magnitude(mel.float().cpu()).square())

    @property
    def seconds(self) -> float:
        return self.length * self.scale.hop / self.scale.sample_rate

    def decibel(self) -> torch.Tensor:
        """[width, bins], 0 at the loudest place."""
        level = 10 * torch.log10((self.power / self.frames[:, None]).clamp_min(FLOOR))
        return level - level.max()


def audio_spectrogram(audio: torch.Tensor, sample_rate: int, block: int = 1024) -> Spectrogram:
    """The spectrogram of a sound [channels, samples], sample_rate in Hz; channels are averaged.

    block: frames that are transformed together.
    """
    hop = 512
    scale = MelScale(sample_rate, 128, hop, 0.0, sample_rate / 2, 2048, 2048, log="")
    length = max(1, audio.shape[1] // hop)
    around = scale.n_fft // hop
    spectrum = Spectrogram(scale, length)
    for first in range(0, length, block):
        start = max(0, first - around)
        stop = min(length, first + block + around)
        piece = audio[:, start * hop : stop * hop].float().mean(0, keepdim=True)
        piece = torch.nn.functional.pad(piece, (0, (stop - start) * hop - piece.shape[1]))
        mel = scale.spectrogram(piece)[0, first - start :][: min(block, length - first)]
        spectrum.add(mel, first)
    return spectrum


def spectrogram_picture(
    spectrum: Spectrogram, title: str, views: ViewPlan | None = None, column: float = 1.0
) -> torch.Tensor:
    """Draw a spectrogram: [1, 540, 1280, 3], 0 to 1.

    views, column: the plan to mark, and the seconds of one of its columns.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(SIZE, DPI, facecolor=BACK, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=BACK)
    image = axes.imshow(
        spectrum.decibel().T.numpy(),
        extent=(0, spectrum.seconds, -0.5, spectrum.scale.bins - 0.5),
        vmin=-DEPTH,
        vmax=0,
        cmap="magma",
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03)
    bar.set_label("dB, 0 = loudest", color=INK)
    _draw_ticks(axes, spectrum.scale)
    axes.set_xlabel("time in seconds", color=INK)
    axes.set_ylabel("frequency in Hz (mel scale)", color=INK)
    for part in (axes, bar.ax):
        part.tick_params(colors=INK)
    lanes = 0
    if views is not None:
        lanes = _count_lanes(views)
        title += "; bars are views, their overlaps shaded"
        _draw_views(axes, views, column, lanes)
    axes.set_title(title, color=INK, fontsize=11, loc="left", pad=8 + 17 * lanes)
    axes.set_xlim(0, spectrum.seconds)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255
    return torch.from_numpy(pixels).unsqueeze(0)


def _draw_ticks(axes: Axes, scale: MelScale) -> None:
    """Frequencies where the triangles' centres lie on the axis of mel bins."""
    hz = torch.tensor([f for f in TICKS if scale.fmin <= f <= scale.fmax], dtype=torch.float64)
    low, high = hz_to_mel(torch.tensor([scale.fmin, scale.fmax], dtype=torch.float64), scale.scale)
    place = (hz_to_mel(hz, scale.scale) - low) / (high - low) * (scale.bins + 1) - 1
    inside = (place >= -0.5) & (place <= scale.bins - 0.5)
    axes.set_yticks(place[inside].tolist(), [f"{f:.0f}" for f in hz[inside].tolist()])


def _count_lanes(views: ViewPlan) -> int:
    """Rows of bars, so that views that overlap do not hide each other; on a ring the last meets the first."""
    most = max(2, min(8, int(views.coverage.max())))
    return most + 1 if views.loop and len(views) % most else most


def _draw_views(axes: Axes, views: ViewPlan, column: float, lanes: int) -> None:
    """Views as bars above the spectrogram, their overlaps shaded between dashed lines within it."""
    from matplotlib.patches import Rectangle
    from matplotlib.transforms import blended_transform_factory

    above = blended_transform_factory(axes.transData, axes.transAxes)
    for i, start in enumerate(views.starts):
        height = 1.015 + 0.05 * (i % lanes)
        parts = _split_at_end(start, views.view, views.length)
        for a, b in parts:
            look: dict[str, Any] = {"color": VIEWS[i % 2], "lw": 0, "transform": above, "clip_on": False}
            axes.add_patch(Rectangle((a * column, height), (b - a) * column, 0.04, **look))
        if len(views) <= NUMBERED:
            a, b = max(parts, key=lambda part: part[1] - part[0])
            middle = (a + b) / 2 * column
            text: dict[str, Any] = {"color": INK, "fontsize": 8, "ha": "center", "va": "center", "transform": above}
            axes.text(middle, height + 0.02, str(i + 1), **text)
    for i, shared in enumerate(views.overlaps):
        following = views.starts[(i + 1) % len(views)]
        for a, b in _split_at_end(following, shared, views.length):
            axes.axvspan(a * column, b * column, color=GLOW, alpha=0.15, lw=0)
            for edge in (a, b):
                if 0 < edge < views.length and len(views) <= NUMBERED:
                    axes.axvline(edge * column, color=GLOW, lw=1, ls="--", alpha=0.9)


def _split_at_end(start: int, length: int, ring: int) -> list[tuple[int, int]]:
    """A stretch of a ring as one or two stretches of a line."""
    end = start + length
    if end <= ring:
        return [(start, end)]
    return [(start, ring), (0, end - ring)]
