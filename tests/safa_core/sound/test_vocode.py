"""Windows joined one after another into the canvas, against the fold of all of them."""

import pytest
import torch

from safa_pack.safa_core import AverageJoin, SwapJoin, TriangularJoin, ViewPlan, plan_views
from safa_pack.safa_core.fold import ViewFold
from safa_pack.safa_core.sound.vocode import Differences, join_windows, scaled

pytestmark = pytest.mark.core


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


PLANS = [
    plan_views(40, 16, 0.25),
    plan_views(40, 16, 0.25, loop=True),
    plan_views(48, 16, 0.7, loop=True),
    plan_views(48, 16, 0.7),
    plan_views(32, 16, 0.0),
    plan_views(30, 16, 0.2, loop=True),
    plan_views(16, 16),
    plan_views(16, 16, loop=True),
    ViewPlan((3, 9, 20), 14, 26, True),
]


@pytest.mark.parametrize("join", [SwapJoin(), AverageJoin(), TriangularJoin()])
@pytest.mark.parametrize("plan", PLANS)
def test_windows_joined_one_after_another_are_the_fold_of_all_of_them(plan, join):
    views = noise(len(plan), 2, plan.view, 6)
    weights = join.weights(plan)
    origin, blocks = join_windows(plan, weights, iter(views))
    joined = torch.cat(list(blocks), dim=1).roll(origin, 1)
    fold = ViewFold(plan, weights, 4, 3)
    expected = fold.scatter(torch.cat(list(views.transpose(2, 3).unsqueeze(2)), dim=-1))[:, 0].transpose(1, 2)
    assert joined.shape == (2, plan.length, 6)
    assert (joined - expected).abs().max() <= 1e-6


def test_windows_swap_in_rows_too():
    plan, views = PLANS[1], noise(4, 1, 16, 6)
    weights = SwapJoin(axis="rows").weights(plan, 6)
    origin, blocks = join_windows(plan, weights, iter(views))
    joined = torch.cat(list(blocks), dim=1).roll(origin, 1)
    fold = ViewFold(plan, weights, 4, 3)
    expected = fold.scatter(torch.cat(list(views.transpose(2, 3).unsqueeze(2)), dim=-1))[:, 0].transpose(1, 2)
    assert (joined - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("loop", [False, True])
def test_windows_cut_from_one_sound_do_not_differ(loop):
    plan = plan_views(40, 16, 0.25, loop)
    canvas = noise(1, 40, 6)
    differences = Differences()
    windows = (canvas[:, plan.indices(i)] for i in range(len(plan)))
    origin, blocks = join_windows(plan, TriangularJoin().weights(plan), windows, differences)
    joined = torch.cat(list(blocks), dim=1).roll(origin, 1)
    assert (joined - canvas).abs().max() <= 1e-6
    assert differences.largest == differences.rms == 0


@pytest.mark.parametrize("loop, steps", [(False, [1, 1]), (True, [1, 1, 1, 3])])
def test_what_is_said_of_windows_that_differ_is_measured(loop, steps):
    plan = plan_views(40, 16, 0.25, loop)
    level = torch.arange(len(plan)).float()
    differences = Differences()
    windows = (level[i].expand(1, 16, 6) for i in range(len(plan)))
    list(join_windows(plan, TriangularJoin().weights(plan), windows, differences)[1])
    assert differences.largest == max(steps)
    squares = sum(o * s**2 for o, s in zip(plan.overlaps, steps, strict=True))
    assert differences.rms == pytest.approx((squares / sum(plan.overlaps)) ** 0.5)


def test_a_plan_in_frames_has_the_views_of_the_plan_in_columns():
    plan = scaled(plan_views(40, 16, 0.25, loop=True), 4)
    assert (plan.view, plan.length, plan.loop) == (64, 160, True)
    assert plan.starts == tuple(4 * s for s in plan_views(40, 16, 0.25, loop=True).starts)
