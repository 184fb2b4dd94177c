"""The distances against closed forms, scipy and loops over pairs."""

import math

import pytest
import scipy.linalg
import torch

from safa_pack.evaluation.scores import metrics

pytestmark = pytest.mark.tools


def features(count, width=6, seed=0, shift=0.0):
    """Correlated rows, not centred."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    return torch.randn(count, width, generator=generator) @ mix + shift


def test_frechet_distance_is_the_published_formula():
    a, b = features(80), features(50, seed=1, shift=0.7)
    covariances = [torch.cov(x.double().T).numpy() for x in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    apart = (a.double().mean(0) - b.double().mean(0)).square().sum().item()
    expected = apart + (covariances[0] + covariances[1] - 2 * root).trace()
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_two_known_normal_distributions():
    mean = torch.tensor([3.0, 4.0])
    a, b = torch.diag(torch.tensor([1.0, 4.0])), torch.diag(torch.tensor([9.0, 16.0]))
    found = metrics.frechet_gaussian(mean, a, torch.zeros(2), b)
    assert found == pytest.approx(25 + (3 - 1) ** 2 + (4 - 2) ** 2)


def test_frechet_distance_of_equal_and_of_degenerate_sets():
    a = features(40)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    few = features(4)  # fewer rows than dimensions: the covariance has no full rank
    assert metrics.frechet_distance(few, few + 2) == pytest.approx(6 * 4, rel=1e-6)


def test_kernel_distance_is_the_unbiased_estimate_over_pairs():
    a, b = features(9), features(7, seed=1)

    def k(x, y):
        return (float(x.double() @ y.double()) / 6 + 1) ** 3

    within = [
        sum(k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / len(x) / (len(x) - 1)
        for x in (a, b)
    ]
    between = sum(k(x, y) for x in a for y in b) / 63
    assert metrics.kernel_distance(a, b) == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_intra_similarity_is_the_mean_cosine_of_pairs():
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    assert metrics.intra_similarity(rows) == pytest.approx((0 + 2 * math.sqrt(0.5)) / 3)


def test_mean_distance_is_root_mean_square_per_pair():
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    assert metrics.mean_distance(a) == pytest.approx(2 / 3 * 5 / math.sqrt(2))
    assert metrics.mean_distance(a[:1], a) == pytest.approx(5 / math.sqrt(2) / 3)


def test_class_divergence_of_known_posteriors():
    sure, unsure = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert metrics.class_divergence(sure, unsure) == pytest.approx(expected, rel=1e-6)
    assert metrics.class_divergence(sure, sure) == 0


@pytest.mark.parametrize("distance", [metrics.frechet_distance, metrics.kernel_distance])
def test_one_window_is_refused(distance):
    with pytest.raises(ValueError, match="at least 2 rows"):
        distance(features(1), features(5))
