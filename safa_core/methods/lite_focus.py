"""LiteFocus (arXiv:2407.10468): self-attention over a spectrogram in which a token sees its own frequency and a few
random tokens of all frequencies, instead of everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

# Odd numbers that keep the streams of neighbouring calls and places apart.
CALL, PLACE = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F


@dataclass(frozen=True)
class TokenGrid:
    """The time and frequency of N = frames * bins tokens.

    frames: along time, T. bins: along frequency, F. Token t * F + f is (t, f), as in diffusers' audio UNets whose
    latents have time first; with `frequency_first` token f * T + t is, as in pictures of spectrograms.
    """

    frames: int
    bins: int
    frequency_first: bool = False

    def of_bins(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [B, N, C] by frequency: [B, F, T, C], a view."""
        if self.frequency_first:
            return tokens.unflatten(1, (self.bins, self.frames))
        return tokens.unflatten(1, (self.frames, self.bins)).transpose(1, 2)

    def tokens(self, bins: torch.Tensor) -> torch.Tensor:
        """The inverse of `of_bins`: [B, F, T, C] -> tokens [B, N, C]."""
        return (bins if self.frequency_first else bins.transpose(1, 2)).flatten(1, 2)


@dataclass(frozen=True)
class CrossFrequency:
    """Cross-frequency compensation: which random tokens every query sees besides its own frequency.

    rho: their share of all tokens, in [0, 1]; ValueError otherwise. seed: any integer from 0.
    """

    rho: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rho <= 1:
            raise ValueError(f"Expected `rho` in [0, 1], got {self.rho}.")

    def picked(self, tokens: int, call: int = 0, place: int = 0) -> torch.Tensor:
        """floor(rho · tokens) token numbers, the first of a permutation; on the CPU, so the same for every device.

        call, place: the model call of a run and the layer in it; each pair has a permutation of its own.
        """
        generator = torch.Generator().manual_seed((self.seed + call * CALL + place * PLACE) % 2**64)
        return torch.randperm(tokens, generator=generator)[: int(self.rho * tokens)]


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Softmax attention of q [B, N, C] over k, v [B, M, C], C split into heads: [B, N, C]."""
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def focus_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    heads: int,
    grid: TokenGrid,
    picked: torch.Tensor,
    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor] = attention,
) -> torch.Tensor:
    """Same-frequency focus and cross-frequency compensation: [B, N, C] for projected q, k, v [B, N, C].

    Query (t, f) attends to the T tokens (·, f) and to `picked` (token numbers, on q's device) in one softmax; a token
    that is in both counts twice. Exact: each frequency is an item of one batch whose keys are its own and the picked
    ones, so the work is N · (T + floor(rho·N)) in place of N². attend: attention(q, k, v, heads) over that batch.
    """

    def seen(tokens: torch.Tensor) -> torch.Tensor:
        """Keys or values [B·F, T + picked, C] of each frequency."""
        same, random = grid.of_bins(tokens), tokens.index_select(1, picked)
        return torch.cat([same, random.unsqueeze(1).expand(-1, grid.bins, -1, -1)], dim=2).flatten(0, 1)

    out = attend(grid.of_bins(q).flatten(0, 1), seen(k), seen(v), heads)
    return grid.tokens(out.unflatten(0, (-1, grid.bins)))
