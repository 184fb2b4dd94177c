"""Runtime and windows evaluated: no backbone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from .interface import Measures, Samples, Score

COSTS = {"runtime": "seconds", "windows": "evaluations"}  # score -> field of Samples, and of a canvas's line


def _per_canvas(what: str) -> Callable[[Samples, Path], Measures]:
    def describe(samples: Samples, folder: Path) -> Measures:
        spent = getattr(samples, what)
        if spent is None:
            raise ValueError(f"expected samples that know their {what}, got None.")
        first = [numbers[0] for numbers in samples.canvases.values()]
        rows = torch.full((len(first), 1), spent / len(first), dtype=torch.float64)
        return Measures(rows, tuple(samples.prompts[i] for i in first), (0,) * len(first))

    return describe


def mean(generated: Measures, real: Measures | None = None) -> float:
    """Mean of the rows."""
    return float(generated.rows.double().mean())


def _score(name: str, title: str) -> Score:
    return Score(name, title, "any", "lower", False, lambda folder: None, _per_canvas(COSTS[name]), mean)


SCORES = (
    _score("runtime", "Rtime↓"),  # seconds per canvas
    _score("windows", "Windows↓"),  # model evaluations of one window, per canvas
)
