"""Steps of a sampler, in the interface that diffusers' DDIM has."""

from __future__ import annotations

from types import SimpleNamespace

import torch


class DDIM:
    """diffusers' DDIM with noise that may lie on another device."""

    def __init__(self, scheduler):
        self.scheduler = scheduler
        self.init_noise_sigma = scheduler.init_noise_sigma

    @classmethod
    def of(cls, config: dict) -> DDIM:
        """From a scheduler's configuration, whatever scheduler it is of; latents are clipped only where it says so."""
        from diffusers import DDIMScheduler

        return cls(DDIMScheduler.from_config({"clip_sample": False} | dict(config)))

    def set_timesteps(self, steps: int) -> None:
        self.scheduler.set_timesteps(steps)

    @property
    def timesteps(self) -> torch.Tensor:
        return self.scheduler.timesteps

    def step(self, output, t, sample, eta: float = 0.0, variance_noise=None):
        """`prev_sample` and `pred_original_sample` for latents of any device."""
        noise = None if variance_noise is None else variance_noise.to(sample.device)
        return self.scheduler.step(output, t, sample, eta=eta, variance_noise=noise)


class FlowEuler:
    """Euler's steps along a flow, in DDIM's interface; eta has no meaning here (ValueError above 0)."""

    init_noise_sigma = 1.0

    def __init__(self, scheduler):
        self.scheduler = scheduler

    @classmethod
    def of(cls, config: dict) -> FlowEuler:
        """From a scheduler's configuration."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        return cls(FlowMatchEulerDiscreteScheduler.from_config(config))

    def set_timesteps(self, steps: int) -> None:
        self.scheduler.set_timesteps(steps)

    @property
    def timesteps(self) -> torch.Tensor:
        return self.scheduler.timesteps

    def step(self, output, t, sample, eta: float = 0.0, variance_noise=None):
        """x' = x + (s' - s) v and x0 = x - s v for the velocity v (Lipman et al., 2023)."""
        if eta:
            raise ValueError(f"Expected eta 0 for a flow model, which has no DDIM noise, got {eta:g}.")
        k = int((self.scheduler.timesteps == t).nonzero()[0])
        now, then = self.scheduler.sigmas[k].item(), self.scheduler.sigmas[k + 1].item()
        return SimpleNamespace(prev_sample=sample + (then - now) * output, pred_original_sample=sample - now * output)
