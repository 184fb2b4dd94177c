"""Runtime and windows evaluated: no backbone."""

from __future__ import annotations

from pathlib import Path

import torch

from .interface import Measures, Samples, Score


def _per_canvas(what: str):
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


def _score(name: str, title: str, what: str) -> Score:
    return Score(name, title, "any", "lower", False, lambda folder: None, _per_canvas(what), mean)


SCORES = (
    _score("runtime", "Rtime↓", "seconds"),  # seconds per canvas
    _score("windows", "Windows↓", "evaluations"),  # model evaluations of one window, per canvas
)
