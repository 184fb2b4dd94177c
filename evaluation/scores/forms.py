"""Forms that metrics.py does not have: what a table's number is made of, given embeddings."""

from __future__ import annotations

from itertools import combinations

import torch

from ...safa_core.methods.perceptual import gram_matrix
from .metrics import class_divergence

EPSILON = 1e-6  # added to the generated probabilities, as in AudioLDM's evaluation


def paired_similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of each row of a [N, D] with the same row of b: [N], float64."""
    return torch.nn.functional.cosine_similarity(a.double(), b.double())


def softmax_divergence(generated: torch.Tensor, real: torch.Tensor) -> float:
    """Mean KL(real || generated) of the softmax of logits [N, K], row by row, in nats (Kreuk et al., 2022)."""
    probabilities = generated.double().softmax(1)
    return class_divergence(real.double().log_softmax(1), (probabilities + EPSILON).log())


def grams(maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gram matrices [C, C] of feature maps [C, ...] of some layers, float64."""
    return [gram_matrix(layer.double()[None], per_channel=True)[0] for layer in maps]


def style_distance(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """Style loss of two sets of `grams`: mean squared difference per layer, summed over layers (Gatys et al., 2016)."""
    return sum(float((x - y).square().mean()) for x, y in zip(a, b, strict=True))


def mean_of_pairs(distance, items: list) -> float:
    """Mean of a symmetric distance over all pairs of at least two items."""
    values = [float(distance(a, b)) for a, b in combinations(items, 2)]
    return sum(values) / len(values)
