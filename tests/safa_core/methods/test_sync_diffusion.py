import math

import pytest
import torch

from safa_pack.safa_core import plan_views
from safa_pack.safa_core.methods.perceptual import gram_distance, gram_matrix
from safa_pack.safa_core.methods.sync_diffusion import SyncSchedule, anchor_view, carried_shift, view_shifts

pytestmark = pytest.mark.core


def test_the_weight_decays_from_the_first_step_and_ends():
    schedule = SyncSchedule(20.0, 0.95, 10)
    assert [schedule.at(i) for i in range(12)] == pytest.approx([20 * 0.95**i for i in range(10)] + [0, 0])
    assert SyncSchedule(20.0, 0.0, 3).at(0) == 20.0
    assert SyncSchedule(20.0, 0.95, 0).at(0) == 0.0


@pytest.mark.parametrize("wrong", [(-1, 0.9, 1), (math.nan, 0.9, 1), (math.inf, 0.9, 1), (1, 1.1, 1), (1, -0.1, 1)])
def test_numbers_without_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match="Expected"):
        SyncSchedule(*wrong)
    with pytest.raises(ValueError, match="`steps` to be 0 or more, got -1"):
        SyncSchedule(1.0, 0.9, -1)


def test_the_anchor_is_the_middle_view():
    assert [anchor_view(plan_views(n * 8 + 8, 16, 0.5)) for n in (2, 3, 4, 5)] == [1, 1, 2, 2]
    with pytest.raises(ValueError, match="at least 2 views, got 1"):
        anchor_view(plan_views(16, 16, 0.5))


@pytest.mark.parametrize("kind", ["noise", "v", "flow"])
def test_the_carried_shift_makes_a_step_from_x_a_step_from_the_shifted_x(kind):
    """Each kind of model in its own words: a DDIM step (noise, v) or an Euler step along the flow."""
    torch.manual_seed(1)
    x, shift, mix = (torch.randn(3, 4, dtype=torch.float64) for _ in range(3))
    sigma, down = (0.8, 0.55) if kind == "flow" else (3.0, 1.7)

    def output(seen):
        return torch.tanh(seen * mix + mix)

    def denoised_and_step(x):
        if kind == "flow":
            velocity = output(x)
            return x - sigma * velocity, x + (down - sigma) * velocity
        a, a_down = 1 / (1 + sigma**2), 1 / (1 + down**2)  # variance-preserving: the paper's own x is x sqrt(a)
        seen = x * a**0.5
        v_or_noise = output(seen)
        noise = v_or_noise if kind == "noise" else a**0.5 * v_or_noise + (1 - a) ** 0.5 * seen
        clean = (seen - (1 - a) ** 0.5 * noise) / a**0.5
        return clean, (a_down**0.5 * clean + (1 - a_down) ** 0.5 * noise) / a_down**0.5

    denoised, wanted = denoised_and_step(x + shift)
    corrected = denoised + carried_shift(sigma, down) * shift
    euler = x + (x - corrected) / sigma * (down - sigma)  # what the sampler does, from the unshifted x
    torch.testing.assert_close(euler, wanted, rtol=1e-12, atol=1e-12)
    assert carried_shift(sigma, 0.0) == 0


def tiny(seed=0):
    """(predict, distance_to, views) in float64: each view has a model and all have a decoder, none of them linear."""
    torch.manual_seed(seed)
    views = [torch.randn(2, 3, 4, 5, dtype=torch.float64) for _ in range(3)]
    mixes = [torch.randn(3, 3, dtype=torch.float64) for _ in views]
    decoder = torch.randn(6, 3, dtype=torch.float64)

    def predict(i, x):
        return torch.tanh(torch.einsum("ij,bjhw->bihw", mixes[i], x)) + 0.1 * x**2

    def distance_to(anchor):
        def features(latent):
            return [torch.sin(torch.einsum("ij,bjhw->bihw", decoder, latent)), latent]

        grams = [gram_matrix(f) for f in features(anchor)]
        return lambda latent: gram_distance(features(latent), grams)

    return predict, distance_to, views


def test_views_move_against_the_gradient_by_finite_differences():
    predict, distance_to, views = tiny()
    shifts = view_shifts(predict, distance_to, views, 1, rate=2.5)
    distance = distance_to(predict(1, views[1]))
    step = 1e-6
    for i in (0, 2):
        for _ in range(6):
            way = torch.randn_like(views[i])
            with torch.no_grad():
                up, down = (distance(predict(i, views[i] + s * way)).sum() for s in (step, -step))
            torch.testing.assert_close((shifts[i] * way).sum(), -2.5 * (up - down) / (2 * step), rtol=1e-6, atol=1e-8)
        assert shifts[i].abs().max() > 1e-3
    assert torch.count_nonzero(shifts[1]) == 0
    assert not any(s.requires_grad for s in shifts)


def test_pictures_of_a_batch_do_not_pull_at_each_other():
    predict, distance_to, views = tiny()
    both = view_shifts(predict, distance_to, views, 1, 1.0)
    for b in range(2):
        alone = view_shifts(predict, distance_to, [v[b : b + 1] for v in views], 1, 1.0)
        torch.testing.assert_close(torch.cat(alone), torch.cat([s[b : b + 1] for s in both]), rtol=1e-10, atol=1e-12)


def test_half_precision_keeps_the_tiny_gradients_of_a_mean_over_pixels():
    view = torch.linspace(-1, 1, 40).half().reshape(1, 1, 8, 5)

    def shift(scale):
        def distance_to(anchor):
            return lambda latent: scale * (latent.float() ** 2).flatten(1).sum(1)

        return view_shifts(lambda i, x: 3 * x, distance_to, [view, view], 1, 1 / scale)[0]

    assert shift(1e-3).abs().max() > 0
    torch.testing.assert_close(shift(1e-3), shift(1.0), rtol=5e-3, atol=5e-3)


def test_a_model_without_gradient_is_refused():
    def detached(i, x):
        return x.detach() * 2

    with pytest.raises(ValueError, match="prediction has a gradient"):
        view_shifts(detached, lambda anchor: torch.sum, [torch.zeros(1, 1, 2, 2)] * 2, 1, 1.0)


def test_equal_views_stay():
    predict, distance_to, views = tiny()
    shifts = view_shifts(lambda i, x: predict(0, x), distance_to, [views[0]] * 3, 1, 5.0)
    assert all(torch.isfinite(s).all() and s.abs().max() < 1e-12 for s in shifts)


def test_gram_matrix_is_the_mean_outer_product_over_places():
    torch.manual_seed(2)
    features = torch.randn(2, 3, 4, 5)
    wanted = torch.zeros(2, 3, 3)
    for b in range(2):
        for h in range(4):
            for w in range(5):
                wanted[b] += torch.outer(features[b, :, h, w], features[b, :, h, w]) / 20
    torch.testing.assert_close(gram_matrix(features), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        gram_matrix(features, per_channel=True), wanted / features.shape[1], rtol=1e-5, atol=1e-6
    )
    assert gram_matrix(features.half()).dtype == torch.float32


def test_gram_distance_ignores_places_and_scale_of_levels():
    torch.manual_seed(3)
    levels = [torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)]
    grams = [gram_matrix(level) for level in levels]
    assert gram_distance([level.flip(2, 3) for level in levels], grams).abs().max() < 1e-10
    other = [torch.randn_like(level) for level in levels]
    plain = gram_distance(other, grams)
    wanted = sum(
        ((gram_matrix(o) - g) ** 2).sum((1, 2)) / (g**2).sum((1, 2)) for o, g in zip(other, grams, strict=True)
    )
    torch.testing.assert_close(plain, wanted / 2)
    scaled = gram_distance([100 * other[0], other[1]], [gram_matrix(100 * levels[0]), grams[1]])
    torch.testing.assert_close(scaled, plain)
    assert torch.isfinite(gram_distance([torch.zeros(1, 2, 3)], [torch.zeros(1, 2, 2)])).all()
