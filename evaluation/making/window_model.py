"""What every method asks of a model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch.nn.functional import pad

from .merging import Merging


class WindowModel(ABC):
    """A latent diffusion model on windows [N, C, rows, columns], time or width last, as safa_core wants them.

    kind:    "audio", "image" or "pocket". device: where it computes. batch: windows in one call, guided and unguided
             counted apart. evaluations: of the model on one window so far, counted likewise.
    network: the denoiser. scheduler: DDIM's interface of diffusers.
    view:    latent columns of the model's own window; 0 where any length is as good.
    sample_rate: of its sound, in Hz; None for pictures.
    seconds: of its own window; 0 for pictures.
    long_axis: which dimension of the network's own latents [N, C, ., .] is the long one, counted from 0 after C.
    reference_axis: what alternates in the Reference-Guided Swap, "frames" or "rows".
    prompts: what the model's own prompts are, where it knows no others.
    autocast: the network computes in bfloat16 (the pocket model's alone).
    merging: the attention of Merge-Attend-Diffuse that fits the network.
    """

    kind = "audio"
    reference_axis = "frames"
    long_axis = 1
    prompts: tuple[str, ...] = ()
    merging = Merging
    view = 0
    sample_rate: int | None = None
    seconds = 0.0
    autocast = False

    def __init__(self, network: torch.nn.Module, scheduler, device: torch.device, batch: int):
        self.network = network
        self.scheduler = scheduler
        self.device = device
        self.batch = batch
        self.evaluations = 0

    @abstractmethod
    def latent_shape(self, columns: int) -> tuple[int, int, int]:
        """[C, rows, columns] of a latent."""

    @abstractmethod
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, ...]:
        """What the network takes of the prompts, [B, ...] each."""

    @abstractmethod
    def forward(self, latents: torch.Tensor, t: torch.Tensor, *text: torch.Tensor) -> torch.Tensor:
        """The network's output for latents [N, C, rows, columns] and as many prompts."""

    @abstractmethod
    def decode(self, latents: torch.Tensor, loop: bool) -> torch.Tensor:
        """Final latents [B, C, rows, columns] on the CPU as pictures [B, 3, H, W] in 0 ... 1, sound [B, samples] or,
        of the pocket model, ln mel [B, frames, bins]."""

    def columns(self, length: float, view: float) -> int:
        """Latent columns of a length, in proportion: `view` in the same unit is the model's own window."""
        return round(length / view * self.view)

    def caption(self, prompt: str, seed: int) -> str:
        """What the model is told for a prompt of the protocol."""
        return prompt

    @property
    def coarsest(self) -> int:
        """Latent columns per token at the coarsest level of the network."""
        return 2 ** (len(self.network.config.block_out_channels) - 1)

    def guided(self, latents: torch.Tensor, t: torch.Tensor, text, unguided, scale: float) -> torch.Tensor:
        """The network's output for latents [N, C, rows, columns] under classifier-free guidance.

        text, unguided: as `encode` returns them, of N prompts and of one.
        """
        inputs = [torch.cat([latents, latents])]
        inputs += [_both(*pair) for pair in zip(text, unguided, strict=True)]
        count = len(inputs[0])
        self.evaluations += count
        calls = math.ceil(count / self.batch)
        parts = zip(*(part.tensor_split(calls) for part in inputs), strict=True)
        positive, negative = torch.cat([self.forward(part, t, *prompt) for part, *prompt in parts]).chunk(2)
        return negative + scale * (positive - negative)


def _both(text: torch.Tensor, unguided: torch.Tensor) -> torch.Tensor:
    """N prompts and N times the unguided one below each other; tokens that are added are 0, and so is their mask."""
    return stacked([text, unguided.expand(len(text), *unguided.shape[1:])])


def stacked(prompts: list[torch.Tensor]) -> torch.Tensor:
    """Prompts [N, tokens, ...] of unequal length below each other, filled up with zeros."""
    longest = max(prompt.shape[1] for prompt in prompts)
    padded = [pad(prompt, (0, 0) * (prompt.ndim - 2) + (0, longest - prompt.shape[1])) for prompt in prompts]
    return torch.cat(padded)
