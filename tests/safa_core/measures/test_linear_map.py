import pytest
import torch

from safa_pack.safa_core.measures.linear_map import (
    LinearMap,
    downsample,
    explained,
    fit_linear_map,
    synthetic_spectrograms,
)

pytestmark = pytest.mark.core

WEIGHTS = (0.5, -1.0, 0.25, 2.0)


def latents(seed=1, shape=(3, 4, 10, 6)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_an_exact_map_is_found():
    z = latents()
    values = sum(w * z[:, c] for c, w in enumerate(WEIGHTS)) + 0.7
    picture = values.repeat_interleave(4, 1).repeat_interleave(2, 2)
    found = fit_linear_map(z, picture)
    assert found.weights == pytest.approx(WEIGHTS, abs=1e-6)
    assert (found.bias, found.r2) == pytest.approx((0.7, 1.0), abs=1e-6)
    assert torch.allclose(found(z), values, atol=1e-5)


def test_least_squares_is_the_closed_form():
    """(ZᵀZ)⁻¹ Zᵀ x, written out, and R² of a known share of noise."""
    z, noise = latents(shape=(8, 4, 40, 16)), latents(2, (8, 40, 16))
    values = sum(w * z[:, c] for c, w in enumerate(WEIGHTS)) + 3 * noise
    rows = torch.cat([z.movedim(1, -1).reshape(-1, 4), torch.ones(8 * 40 * 16, 1)], 1).double()
    closed = torch.inverse(rows.T @ rows) @ rows.T @ values.double().reshape(-1)
    found = fit_linear_map(z, values)
    assert [*found.weights, found.bias] == pytest.approx(closed.tolist(), abs=1e-9)
    signal = sum(w**2 for w in WEIGHTS)
    assert found.r2 == pytest.approx(signal / (signal + 9), abs=0.03)


def test_channels_that_never_move_do_no_harm():
    z = torch.cat([latents(), torch.zeros(3, 2, 10, 6), torch.ones(3, 1, 10, 6)], 1)
    found = fit_linear_map(z, z[:, 1])
    assert found.r2 == pytest.approx(1, abs=1e-9)
    assert found.weights == pytest.approx((0, 1, 0, 0, 0, 0, 0), abs=1e-9)


def test_downsample_is_the_mean_of_areas():
    picture = torch.arange(24.0).reshape(1, 4, 6)
    assert downsample(picture, 2, 2).tolist() == [[[4, 7], [16, 19]]]


def test_explained_is_nothing_for_the_mean():
    values = latents()
    assert explained(values, values.mean().expand_as(values)) == pytest.approx(0)


def test_a_map_in_the_latents_precision():
    assert LinearMap((1.0, 2.0), 0.5, 1.0)(torch.ones(1, 2, 3, 4, dtype=torch.float64)).tolist() == [[[3.5] * 4] * 3]


def test_synthetic_clips_are_seeded_and_cover_the_range():
    clips = synthetic_spectrograms(8, 256, 64)
    assert clips.shape == (8, 256, 64)
    assert torch.equal(clips, synthetic_spectrograms(8, 256, 64))
    assert not torch.equal(clips, synthetic_spectrograms(8, 256, 64, seed=1))
    assert clips.min() == 0 and clips.max() == 1
    shares = torch.histc(clips, 5, 0, 1) / clips.numel()
    assert shares.min() > 0.01
