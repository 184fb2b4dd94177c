"""What every score of Tables 2-6 takes and gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from ...safa_core import ViewPlan


@dataclass(frozen=True, eq=False)  # compared by identity: embeddings are kept for them
class Samples:
    """Windows of canvases (long sounds or panoramas), or clips that stand alone: then each is a canvas of its own.

    windows:     sound [N, samples] at `sample_rate`, -1 ... 1, pictures [N, 3, H, W] in 0 ... 1, or, of the pocket
                 model, ln mel [N, frames, bins] or whole latents [N, C, rows, columns].
    canvas:      for each window the canvas that it was cut from; windows of a canvas in their order on it.
    prompts:     for each window its prompt.
    sample_rate: in Hz; None for pictures.
    seconds:     what making all the canvases took, together; None where that is not known.
    evaluations: windows that the model was run on, all canvases together; None where that is not known.
    plan:        of the pocket model: where the views lie on the canvas. width: columns of the regions to compare.

    ValueError for shapes that do not fit and values that are not finite or outside 0 ... 1 (pictures).
    """

    windows: torch.Tensor
    canvas: tuple[int, ...]
    prompts: tuple[str, ...]
    sample_rate: int | None = None
    seconds: float | None = None
    evaluations: int | None = None
    plan: ViewPlan | None = None
    width: int = 0

    def __post_init__(self):
        object.__setattr__(self, "canvas", tuple(int(number) for number in self.canvas))
        object.__setattr__(self, "prompts", tuple(self.prompts))
        shape = list(self.windows.shape)
        count = len(self.windows)
        if self.kind == "image" and (len(shape) != 4 or shape[1] != 3):
            raise ValueError(f"Expected pictures [N, 3, H, W], or sound with its sample rate, got {shape}.")
        if self.kind == "audio" and len(shape) != 2:
            raise ValueError(f"Expected sound [N, samples] at {self.sample_rate} Hz, got {shape}.")
        if not count or {count} != {len(self.canvas), len(self.prompts)}:
            raise ValueError(
                "Expected a canvas and a prompt for each of at least one window, got "
                f"{count} windows, {len(self.canvas)} canvases and {len(self.prompts)} prompts."
            )
        low, high = (float(value) for value in self.windows.aminmax())
        if not (-float("inf") < low and high < float("inf")):
            raise ValueError("Expected finite windows, got NaN or infinity.")
        if self.kind == "image" and (low < 0 or high > 1):
            raise ValueError(f"Expected pictures in 0 ... 1, got values from {low:g} to {high:g}.")

    @property
    def kind(self) -> str:
        """ "audio", "image" or "pocket"."""
        if self.plan is not None:
            return "pocket"
        return "image" if self.sample_rate is None else "audio"

    @property
    def canvases(self) -> dict[int, list[int]]:
        """Canvas -> numbers of its windows, both in order of appearance."""
        return grouped(self.canvas)

    @property
    def positions(self) -> tuple[int, ...]:
        """For each window which one of its canvas it is: 0, 1, ..."""
        before: Counter[int] = Counter()
        places = []
        for canvas in self.canvas:
            places.append(before[canvas])
            before[canvas] += 1
        return tuple(places)


@dataclass(frozen=True)
class Measures:
    """What a backbone says of Samples, small enough to keep: rows [M, ...], each with its prompt and its position.

    A row is an embedding or the logits of a window (or of a piece of it), or the mean over the pairs of a canvas.
    Join shards with `Measures.together`.
    """

    rows: torch.Tensor
    prompts: tuple[str, ...]
    positions: tuple[int, ...]

    def at(self, numbers: list[int]) -> Measures:
        """Some of the rows."""
        return Measures(
            self.rows[numbers], tuple(self.prompts[i] for i in numbers), tuple(self.positions[i] for i in numbers)
        )

    @property
    def canvases(self) -> list[list[int]]:
        """Numbers of the rows of each canvas: rows are in the order of their canvases, and positions rise on one."""
        groups: list[list[int]] = []
        for i, position in enumerate(self.positions):
            if not groups or position <= self.positions[i - 1]:
                groups.append([])
            groups[-1].append(i)
        return groups

    @staticmethod
    def together(parts: list[Measures]) -> Measures:
        """The rows of all parts, in order."""
        return Measures(
            torch.cat([part.rows for part in parts]),
            tuple(chain.from_iterable(part.prompts for part in parts)),
            tuple(chain.from_iterable(part.positions for part in parts)),
        )


@dataclass(frozen=True)
class Score:
    """A column of a table.

    name:       key in SCORES. title: the paper's column, with its arrow.
    kind:       "audio", "image", "any" of these, or "pocket". better: "lower", "higher", or "" where neither is.
    needs_real: whether it compares with real (or the reference model's) windows.
    lacks:      models folder -> None, or the sentence of `missing`.
    describe:   (Samples, models folder) -> Measures: runs the backbone.
    reduce:     (generated Measures, real ones or None) -> the value, in the paper's scale.
    windows:    which windows of a canvas it takes: "slid", "regions", or of the pocket model those of
                windows.latent_windows or the whole "canvas".
    within:     whether it compares the windows of one canvas with each other.
    error:      (generated Measures, real ones or None) -> standard error of the value; None where none is known.
    form:       how the value is written, such as ".1%"; "" for the paper's two or three digits.
    """

    name: str
    title: str
    kind: str
    better: str
    needs_real: bool
    lacks: Callable[[Path], str | None]
    describe: Callable[[Samples, Path], Measures]
    reduce: Callable[[Measures, Measures | None], float]
    windows: str = "slid"
    within: bool = False
    error: Callable[[Measures, Measures | None], float] | None = None
    form: str = ""

    def missing(self, folder: Path) -> str | None:
        """None, or one sentence: which weights belong where under `folder` (ComfyUI's models folder), or which package
        to install."""
        return self.lacks(Path(folder))

    def written(self, value: float, error: float | None = None) -> str:
        """A value, with its standard error where it is known."""
        form = self.form or (".2f" if abs(value) >= 0.1 else ".3g")
        if error is None:
            return f"{value:{form}}"
        return f"{value:{form}} ± {error:{'.2g' if form.endswith('g') else form.lstrip('+')}}"

    def fits(self, kind: str) -> bool:
        """Whether windows of this kind can be measured."""
        return self.kind == kind or (self.kind == "any" and kind != "pocket")

    def measure(self, samples: Samples, folder: Path) -> Measures:
        """The slow part. ValueError for what is missing or unusable, and for sound where pictures are asked for."""
        lacking = self.missing(folder)
        if lacking:
            raise ValueError(f"{self.name}: {lacking}")
        if not self.fits(samples.kind):
            raise ValueError(f"{self.name}: expected windows of {self.kind}, got {samples.kind}.")
        try:
            return self.describe(samples, Path(folder))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def compute(self, generated: Samples, real: Samples | None, folder: Path) -> float:
        """The score of all windows together; ValueError as in `measure`, and where `real` is needed and is None."""
        measured = None if real is None or not self.needs_real else self.measure(real, folder)
        return averaged(self, self.measure(generated, folder), measured)


def averaged(score: Score, generated: Measures, real: Measures | None, by: tuple[str, ...] = ()) -> float:
    """Mean of the score over subsets of the generated rows, each against the real rows that it belongs to.

    by: () for all rows at once (Table 5); ("prompt",) for subsets of one prompt, against the real rows of that prompt
    (Tables 3 and 6); ("prompt", "position") for the first windows of all canvases of a prompt, the second ones, ...
    (Table 2: "multiple 500-sample evaluation subsets per prompt").
    """
    if not set(by) <= {"prompt", "position"}:
        raise ValueError(f"Expected subsets by prompt or position, got {', '.join(by)}.")
    if score.needs_real and real is None:
        raise ValueError(f"{score.name}: expected real windows to compare with, got none.")
    keys = [
        (prompt if "prompt" in by else "", position if "position" in by else 0)
        for prompt, position in zip(generated.prompts, generated.positions, strict=True)
    ]
    values = []
    for (prompt, _), numbers in grouped(keys).items():
        against = real
        if real is not None and "prompt" in by:
            against = real.at([i for i, theirs in enumerate(real.prompts) if theirs == prompt])
        try:
            values.append(score.reduce(generated.at(numbers), against))
        except ValueError as error:
            raise ValueError(f"{score.name}: {error}") from error
    return sum(values) / len(values)


def grouped(keys: Iterable[Hashable]) -> dict:
    """Key -> the places where it stands."""
    groups = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    return groups
