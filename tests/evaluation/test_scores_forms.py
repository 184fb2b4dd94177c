"""The forms of the tables' numbers against closed forms, scipy and torchmetrics."""

import math

import pytest
import scipy.linalg
import torch

from safa_pack.evaluation.scores import Measures, forms, tables

pytestmark = pytest.mark.tools


def rows(count, width=6, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    return torch.randn(count, width, generator=generator) @ mix + shift


def measures(values, prompts=None):
    return Measures(values, prompts or ("rain",) * len(values), (0,) * len(values))


class Given(torch.nn.Module):
    """A backbone for torchmetrics that gives back the features it is given as a picture."""

    num_features = 6

    def forward(self, pictures):
        return pictures.flatten(1)


def test_fd_and_fid_are_what_scipy_gives():
    a, b = rows(80), rows(50, seed=1, shift=0.7)
    covariances = [torch.cov(x.double().T).numpy() for x in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    apart = (a.double().mean(0) - b.double().mean(0)).square().sum().item()
    expected = apart + (covariances[0] + covariances[1] - 2 * root).trace()
    assert tables.frechet(measures(a), measures(b)) == pytest.approx(expected, rel=1e-9)


def test_fid_is_what_torchmetrics_gives():
    metric = pytest.importorskip("torchmetrics.image.fid").FrechetInceptionDistance(feature=Given(), normalize=True)
    metric = metric.set_dtype(torch.float64)
    a, b = rows(60).double(), rows(60, seed=1, shift=0.7).double()
    metric.update(b.reshape(-1, 6, 1, 1), real=True)
    metric.update(a.reshape(-1, 6, 1, 1), real=False)
    assert tables.frechet(measures(a), measures(b)) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_kid_is_what_torchmetrics_gives_on_the_whole_set_times_1000():
    kid = pytest.importorskip("torchmetrics.image.kid").KernelInceptionDistance
    metric = kid(feature=Given(), subsets=1, subset_size=40, normalize=True)
    a, b = rows(40).double(), rows(40, seed=1, shift=0.7).double()
    metric.update(b.reshape(-1, 6, 1, 1), real=True)
    metric.update(a.reshape(-1, 6, 1, 1), real=False)
    mean, _ = metric.compute()
    assert tables.kernel(measures(a), measures(b)) == pytest.approx(1000 * float(mean), rel=1e-5)


def test_kl_of_known_posteriors_is_from_real_to_generated():
    generated, real = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log() + 3  # logits: any offset
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert forms.softmax_divergence(generated, real) == pytest.approx(expected, abs=3e-6)
    assert forms.softmax_divergence(real, real) == pytest.approx(0, abs=2e-6)


def test_kl_is_what_torch_gives_in_the_form_of_audioldms_evaluation():
    generated, real = 30 * rows(9), 30 * rows(9, seed=1)  # sure of themselves, so that the epsilon counts
    expected = (
        torch.nn.functional.kl_div(
            (generated.double().softmax(1) + 1e-6).log(), real.double().softmax(1), reduction="sum"
        )
        / 9
    )
    assert forms.softmax_divergence(generated, real) == pytest.approx(float(expected), rel=1e-9)


def test_kl_pairs_windows_of_a_prompt_with_clips_of_that_prompt():
    logits = torch.eye(4) * 5
    generated = measures(logits[[0, 1, 2, 0]], ("a", "b", "a", "a"))
    real = measures(logits[[1, 0, 2]], ("b", "a", "a"))  # a: 0, then 2, then 0 again
    assert tables.divergence(generated, real) == pytest.approx(0, abs=1e-4)
    assert tables.divergence(generated, measures(logits[[1, 2, 0]], ("b", "a", "a"))) > 1


def test_kl_without_a_real_clip_of_a_prompt_is_refused():
    with pytest.raises(ValueError, match="expected real windows of every prompt, got none of 'b'"):
        tables.divergence(measures(torch.zeros(1, 4), ("b",)), measures(torch.zeros(1, 4), ("a",)))


def test_paired_similarity_is_each_rows_cosine():
    a, b = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [4.0, 3.0]])
    assert forms.paired_similarity(a, b).tolist() == pytest.approx([0, 24 / 25])


def test_style_distance_is_the_sum_of_the_layers_mean_squares():
    ones, zeros = [torch.ones(2, 3, 4), torch.full((3, 5), 2.0)], [torch.zeros(2, 3, 4), torch.zeros(3, 5)]
    # Gram of ones [2, 12]: 12 / 24 everywhere; of twos [3, 5]: 20 / 15
    expected = 0.5**2 + (20 / 15) ** 2
    assert forms.style_distance(forms.grams(ones), forms.grams(zeros)) == pytest.approx(expected)


def test_the_mean_of_pairs_takes_every_pair_once():
    seen = []
    assert forms.mean_of_pairs(lambda a, b: seen.append((a, b)) or a * b, [1, 2, 3]) == pytest.approx((2 + 3 + 6) / 3)
    assert seen == [(1, 2), (1, 3), (2, 3)]
