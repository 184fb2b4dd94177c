"""Distances between pictures by the statistics of a network's features."""

from __future__ import annotations

import torch


def gram_matrix(features: torch.Tensor, per_channel: bool = False) -> torch.Tensor:
    """Gram matrix of features [B, C, ...] over all places, divided by their number: [B, C, C], float32 at least.

    Gatys et al. (2016), Eq. 3. per_channel: divided by the number of channels, too.
    """
    flat = features.flatten(2).to(torch.promote_types(features.dtype, torch.float32))
    values = flat[0].numel() if per_channel else flat.shape[2]
    return flat @ flat.transpose(1, 2) / values


def gram_distance(features: list[torch.Tensor], grams: list[torch.Tensor]) -> torch.Tensor:
    """Mean over levels of ||G - G'||^2 / ||G'||^2 between features [B, C, ...] and Gram matrices G' [B, C, C]: [B].

    Relative, so that no level counts for more because its activations are larger. Sizes of the pictures may differ.
    """
    distances = []
    for level, target in zip(features, grams, strict=True):
        size = target.square().sum((1, 2)).clamp_min(torch.finfo(target.dtype).tiny)
        distances.append((gram_matrix(level) - target).square().sum((1, 2)) / size)
    return torch.stack(distances).mean(0)
