"""Distances between sets of embeddings, as Tables 2-6 of the paper use them; any embedding will do.

Everything is computed in float64. Features are [N, D]: one row per window or picture.
"""

from __future__ import annotations

import torch


def moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean [D] and unbiased covariance [D, D] of features [N, D]; ValueError for fewer than two rows."""
    _check_rows(features, 2)
    features = features.double()
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], -1)


def frechet_gaussian(mean_a: torch.Tensor, cov_a: torch.Tensor, mean_b: torch.Tensor, cov_b: torch.Tensor) -> float:
    """Squared Fréchet distance of two normal distributions (Dowson and Landau, 1982): means [D], covariances [D, D].

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)); the root's trace is taken from the symmetric
    C_a^(1/2) C_b C_a^(1/2), which has the same eigenvalues.
    """
    values, vectors = torch.linalg.eigh(cov_a.double())
    half = vectors * values.clamp_min(0).sqrt() @ vectors.T  # rounding leaves eigenvalues just below 0
    cross = torch.linalg.eigvalsh(half @ cov_b.double() @ half).clamp_min(0).sqrt().sum()
    apart = (mean_a.double() - mean_b.double()).square().sum()
    return float(apart + cov_a.double().trace() + cov_b.double().trace() - 2 * cross)


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """FID's formula (Heusel et al., 2017) on features [N, D] and [M, D]. Falls with N and M: compare equal counts."""
    return frechet_gaussian(*moments(a), *moments(b))


def kernel_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """KID (Binkowski et al., 2018): unbiased squared MMD with the kernel (x.y / D + 1)^3, features [N, D], [M, D]."""
    _check_rows(a, 2)
    _check_rows(b, 2)
    a, b = a.double(), b.double()

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x):
        k = kernel(x, x)
        return (k.sum() - k.trace()) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def intra_similarity(features: torch.Tensor) -> float:
    """Mean cosine similarity of all pairs of rows, [N, D]: Intra-CLAP where the features are CLAP's."""
    _check_rows(features, 2)
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    cosine = unit @ unit.T
    return float((cosine.sum() - cosine.trace()) / (len(unit) * (len(unit) - 1)))


def mean_distance(a: torch.Tensor, b: torch.Tensor | None = None) -> float:
    """Mean root-mean-square difference of all pairs of a [N, ...], or of every a with every b [M, ...]."""
    scale = a[0].numel() ** 0.5
    if b is not None:
        return float(torch.cdist(a.double().flatten(1), b.double().flatten(1)).mean() / scale)
    _check_rows(a, 2)
    return float(torch.pdist(a.double().flatten(1)).mean() / scale)


def class_divergence(reference: torch.Tensor, generated: torch.Tensor) -> float:
    """Mean KL(reference || generated) of class log-probabilities [N, K], row by row, in nats."""
    reference, generated = reference.double(), generated.double()
    return float((reference.exp() * (reference - generated)).sum(1).mean())


def _check_rows(features: torch.Tensor, least: int) -> None:
    if len(features) < least:
        raise ValueError(f"Expected at least {least} rows of features, got {list(features.shape)}.")
