"""What one sampling starts from: the host's own inputs, and what an earlier stage left."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from functools import cached_property

import torch

from comfy.samplers import CFGGuider, Sampler

from .schedule import Stage

PROBE = 256  # values that tell noise apart
SamplerInputs = tuple[torch.Tensor, torch.Tensor, "torch.Tensor | None"]  # noise, latent, denoise mask


@dataclass(frozen=True)
class Start:
    """What the host hands to one sampling.

    guider:  its CFGGuider inside `inner_sample`.
    options: its model_options, before the sampler adds to them.
    sampler, sigmas, seed: the host's.
    stage:   the sigmas' place in a schedule.
    noise, latent: the canvas's, [B, C, ..., length, ...]; the latent in the model's scale.
    mask:    the denoise mask, 1 where the latent is made new, or None.
    """

    guider: CFGGuider
    options: dict
    sampler: Sampler
    sigmas: torch.Tensor
    stage: Stage
    noise: torch.Tensor
    latent: torch.Tensor
    mask: torch.Tensor | None
    seed: int | None

    @cached_property
    def adds_noise(self) -> bool:
        """Whether it begins with noise; a later stage goes on without."""
        return bool(self.probes.any()) or bool(self.noise.any())

    @cached_property
    def probes(self) -> torch.Tensor:
        """The first values of every picture's noise, on the CPU: they show which draw it is."""
        return self.noise.flatten(1)[:, :PROBE].float().cpu()

    @cached_property
    def is_whole(self) -> bool:
        """The host's `max_denoise`: whether the sigmas begin at the model's highest."""
        return self.sampler.max_denoise(self.guider, self.stage.sigmas)

    @property
    def inputs(self) -> SamplerInputs:
        """Noise, latent and denoise mask, in the order in which the host hands them on."""
        return self.noise, self.latent, self.mask

    def window(self, columns: torch.Tensor, axis: int) -> SamplerInputs:
        """The inputs at some canvas columns."""
        noise, latent, mask = (t if t is None else t.index_select(axis, columns) for t in self.inputs)
        return noise, latent, mask


class StageMemory:
    """The references of samplings that ended early, for the stage that goes on with the same canvas; the last four.

    Taking one leaves it here: a workflow may run its second stage again and take the first from the host's cache.
    """

    def __init__(self) -> None:
        self._pairs: collections.deque[tuple[torch.Tensor, torch.Tensor]] = collections.deque(maxlen=4)

    def keep(self, canvas: torch.Tensor, reference: torch.Tensor) -> None:
        self._pairs.appendleft((canvas.cpu().clone(), reference.cpu().clone()))

    def find(self, canvas: torch.Tensor) -> torch.Tensor | None:
        """The reference that an earlier stage left together with this very canvas, or None."""
        here = canvas.cpu()
        for known, reference in self._pairs:
            # the host takes the canvas out of the model's scale and back between the stages
            if known.shape == here.shape and torch.allclose(known, here, rtol=1e-3, atol=1e-3):
                return reference.to(canvas)
        return None
