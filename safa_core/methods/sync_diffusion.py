"""SyncDiffusion (arXiv:2306.05178, Algorithm 1): the gradient of a distance pulls all views towards one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ..plan import ViewPlan

ToDistance = Callable[[torch.Tensor], torch.Tensor]  # a denoised latent -> its distance [B]


@dataclass(frozen=True)
class SyncSchedule:
    """How far views move per step: weight * decay^i in each of the first `steps` steps, i from 0.

    The authors' values are 20, 0.95 and 10 for LPIPS.
    """

    weight: float
    decay: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"Expected `weight` to be 0 or more, got {self.weight}.")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"Expected `decay` in [0, 1], got {self.decay}.")
        if self.steps < 0:
            raise ValueError(f"Expected `steps` to be 0 or more, got {self.steps}.")

    def at(self, step: int) -> float:
        """The factor of the gradient at a step, 0 after the first `steps`."""
        return self.weight * self.decay**step if step < self.steps else 0.0


def anchor_view(plan: ViewPlan) -> int:
    """The view that all others follow: the middle one, the later of two. ValueError where there is no other."""
    if len(plan) < 2:
        raise ValueError(
            "Expected a plan of at least 2 views, got 1, which has nothing to follow; plan a longer canvas."
        )
    return len(plan) // 2


def carried_shift(sigma: float, sigma_down: float) -> float:
    """What has to be added to the prediction, in shifts of x, so that a step from x is a step from x + shift.

    A step to `sigma_down` is x' = r x + (1 - r) D with r = sigma_down / sigma, for noise-predicting, v-predicting and
    flow models alike once D is the denoised latent. From x + s it is r x + (1 - r) (D(x + s) + s r / (1 - r)), hence
    r / (1 - r). Noise that is added afterwards changes nothing.
    """
    return sigma_down / (sigma - sigma_down)


def view_shifts(
    predict: Callable[[int, torch.Tensor], torch.Tensor],
    distance_to: Callable[[torch.Tensor], ToDistance],
    views: Sequence[torch.Tensor],
    anchor: int,
    rate: float,
) -> list[torch.Tensor]:
    """-rate * grad_x distance(x0(x), x0 of the anchor) for each view, zero for the anchor; one view at a time.

    predict:     (i, x of view i) -> its denoised latent, with guidance.
    distance_to: denoised latent of the anchor -> function of a denoised latent, a distance [B] (it decodes).
    views:       tensors [B, C, ...], one per view, not made under inference mode. Their graphs are freed in turn.

    The chain rule is taken in two parts, so that the decoder's graph is gone before the model's is walked, and so that
    what enters the model's part has size 1: half precision would lose the tiny gradients of a mean over pixels.
    """
    with torch.no_grad():
        distance = distance_to(predict(anchor, views[anchor]))
    shifts = [torch.zeros_like(view) for view in views]
    with torch.enable_grad():
        for i, view in enumerate(views):
            if i != anchor:
                shifts[i] = -rate * _gradient(partial(predict, i), distance, view)
    return shifts


def _gradient(
    predict: Callable[[torch.Tensor], torch.Tensor], distance: ToDistance, view: torch.Tensor
) -> torch.Tensor:
    """Gradient of distance(predict(view)) with respect to the view."""
    x = view.detach().requires_grad_()
    denoised = predict(x)
    if not denoised.requires_grad:
        raise ValueError("Expected a model whose prediction has a gradient with respect to its input.")
    leaf = denoised.detach().requires_grad_()
    (outer,) = torch.autograd.grad(distance(leaf).sum(), leaf)
    size = outer.abs().amax().clamp_min(torch.finfo(outer.dtype).tiny)
    (inner,) = torch.autograd.grad(denoised, x, outer / size)
    return inner * size
