"""How much of a Fréchet distance is the small number of windows, and how far it can be trusted.

The windows of one canvas are alike, so canvases are drawn, never windows. Groups are [canvases, windows, D].
"""

from __future__ import annotations

import torch

from .metrics import frechet_distance

POINTS, DRAWS, FOLDS = 8, 12, 12


def frechet_limit(a: torch.Tensor, b: torch.Tensor) -> float:
    """The distance of groups a and b, same canvases, extrapolated to infinitely many (Chong and Forsyth, 2020).

    Its bias falls with one over the number: a straight line through the distances of half to all of the canvases,
    each the mean of some draws, is read at 0. ValueError for fewer than four canvases.
    """
    count = len(a)
    if count != len(b) or count < 4:
        raise ValueError(f"Expected two sets of the same canvases, at least 4, got {count} and {len(b)}.")
    generator = torch.Generator().manual_seed(0)
    sizes = sorted({round(count * (0.5 + 0.5 * i / (POINTS - 1))) for i in range(POINTS)})
    distances = []
    for size in sizes:
        draws = [torch.randperm(count, generator=generator)[:size] for _ in range(1 if size == count else DRAWS)]
        distances.append(sum(_distance(a[draw], b[draw]) for draw in draws) / len(draws))
    inverse = torch.tensor([[1.0, 1 / size] for size in sizes], dtype=torch.float64)
    return float(torch.linalg.lstsq(inverse, torch.tensor(distances, dtype=torch.float64)[:, None]).solution[0])


def frechet_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Standard error of the distance: the jackknife, each time without one of some sets of canvases."""
    folds = [torch.arange(len(a)) % FOLDS != i for i in range(min(FOLDS, len(a)))]
    left = torch.tensor([_distance(a[keep], b[keep]) for keep in folds], dtype=torch.float64)
    return float(((len(folds) - 1) * (left - left.mean()).square().mean()).sqrt())


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return frechet_distance(a.flatten(0, 1), b.flatten(0, 1))
