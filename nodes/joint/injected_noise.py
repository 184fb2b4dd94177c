"""Noise that a sampler injects between steps: guided places get the reference's, so that they stay equal to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from comfy.k_diffusion.sampling import BrownianTreeNoiseSampler, default_noise_sampler
from comfy.samplers import Sampler

from .schedule import sampler_name

Noise = Callable[..., torch.Tensor]  # noise(sigma, sigma_next)

BROWNIAN = {
    "sample_dpmpp_sde": True,
    "sample_dpmpp_2m_sde": True,
    "sample_dpmpp_2m_sde_heun": True,
    "sample_dpmpp_3m_sde": True,
    "sample_dpmpp_sde_gpu": False,
    "sample_dpmpp_2m_sde_gpu": False,
    "sample_dpmpp_2m_sde_heun_gpu": False,
    "sample_dpmpp_3m_sde_gpu": False,
}  # name: on the CPU


def takes_noise_sampler(sampler: Sampler) -> bool:
    """Whether a host sampler's function can be given a noise sampler."""
    function = getattr(sampler, "sampler_function", None)
    if function is None:
        return False
    return "noise_sampler" in inspect.signature(function).parameters or sampler_name(sampler) == "dpm_adaptive_function"


def host_noise_sampler(sampler: Sampler, x: torch.Tensor, sigmas: torch.Tensor, seed: int | None) -> Noise:
    """The noise sampler that the host would make for this sampler and x."""
    name = sampler_name(sampler)
    if name not in BROWNIAN:
        return default_noise_sampler(x, seed=seed)
    return BrownianTreeNoiseSampler(x, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=BROWNIAN[name])


class TiedNoise:
    """A noise sampler over canvas and reference: the canvas's own draw, the reference's own draw, then the tie.

    canvas:    noise sampler for the canvas (the user's, or the host's for the user's seed).
    reference: noise sampler for the reference.
    axis:      along which canvas and reference lie side by side.
    tie:       called with the joined noise while a step is guided.
    guided:    whether noise drawn at a sigma belongs to a guided step.
    """

    def __init__(
        self,
        canvas: Noise,
        reference: Noise,
        axis: int,
        tie: Callable[[torch.Tensor], torch.Tensor],
        guided: Callable[[torch.Tensor], bool],
    ):
        self.canvas, self.reference, self.axis, self.tie, self.guided = canvas, reference, axis, tie, guided

    def __call__(self, sigma: torch.Tensor, sigma_next: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        reference = self.reference(sigma, sigma_next)
        noise = torch.cat([self.canvas(sigma, sigma_next, **kwargs), reference], dim=self.axis)
        return self.tie(noise) if self.guided(sigma) else noise
