"""The reference's noise for every picture of a batch, so that a picture made again alone is the same picture.

The host gives picture b the b-th draw of the seed's stream, also when a later batch has that picture alone
(`batch_index` of a LATENT); some nodes give every picture a seed of its own. Neither is told to a sampling, but the
noise shows which it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

MOST = 2**26  # values drawn at most to find where in a stream a picture is

Draw = tuple[int, int]  # seed, and how many pictures of its stream come before


def picture_noise(
    probes: torch.Tensor, canvas: Sequence[int], shape: Sequence[int], seed: int, stream: int
) -> torch.Tensor:
    """Noise [B, C, ..., view] in which picture b has the draw of the canvas's, of another stream.

    probes: [B, n], the first values of the canvas's noise, which has the shape `canvas`. shape: of the noise to make.
    seed:   the user's. stream: added to seeds.
    """
    draws = _find_draws(probes, canvas, seed)
    made = {}
    for of_seed in dict.fromkeys(s for s, _ in draws):
        last = max(index for s, index in draws if s == of_seed)
        made[of_seed] = _pictures((of_seed + stream) % 2**63, shape, last + 1)
    return torch.cat([made[of_seed][index] for of_seed, index in draws])


def _pictures(seed: int, shape: Sequence[int], count: int) -> list[torch.Tensor]:
    """The first pictures of a seed's stream, [1, ...] each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((1, *shape[1:]), generator=generator) for _ in range(count)]


def _find_draws(probes: torch.Tensor, shape: Sequence[int], seed: int) -> list[Draw]:
    """The draw of every picture: its place in the batch, unless its noise shows another."""
    batch = len(probes)
    first = _pictures(seed, shape, batch)
    found: list[Draw | None] = [(seed, b) if _shows(probes[b], first[b]) else None for b in range(batch)]
    if None in found:
        count = max(batch, min(64, MOST // math.prod(shape[1:])))
        stream = _pictures(seed, shape, count)
        for b in (b for b, draw in enumerate(found) if draw is None):
            index = next((i for i, picture in enumerate(stream) if _shows(probes[b], picture)), None)
            if index is not None:
                found[b] = seed, index
            elif _shows(probes[b], _pictures(seed + b, shape, 1)[0]):
                found[b] = seed + b, 0
    return [(seed, b) if draw is None else draw for b, draw in enumerate(found)]


def _shows(probe: torch.Tensor, picture: torch.Tensor) -> bool:
    return torch.equal(probe, picture.flatten()[: len(probe)])
