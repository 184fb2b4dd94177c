"""plan_views against a search over all plans, and the mappings of a plan against loops."""

import time

import pytest
import torch
from hypothesis import example, given, settings

from safa_pack.safa_core import AverageJoin, SwapJoin, TriangularJoin, ViewPlan, plan_views
from safa_pack.safa_core.fold import ViewFold
from safa_pack.tests.safa_core.random_plans import plans, requests, shown

pytestmark = pytest.mark.core


def asked_columns(view, per_mille):
    """The asked overlap in whole columns, with integers only."""
    return min(-(-per_mille * view // 1000), view - 1)


def fewest_views(length, view, shared, loop):
    """The least number of views, found by trying every step that keeps the overlap."""
    goal = length if loop else length - view
    reached, views = {0}, 0 if loop else 1
    while goal not in reached:
        reached = {r + step for r in reached for step in range(1, view - shared + 1) if r + step <= goal}
        views += 1
    return views


@settings(max_examples=200, deadline=None)
@given(requests())
@example((10, 10, 0, True))
@example((10, 10, 999, True))
@example((12, 10, 500, True))
@example((1, 1, 0, False))
@example((5, 1, 999, True))
@example((193, 100, 70, False))  # 0.07 * 100 is more than 7
def test_every_canvas_gets_an_even_gapless_plan_with_as_few_views_as_possible(request):
    length, view, per_mille, loop = request
    plan = plan_views(length, view, per_mille / 1000, loop)
    shared = asked_columns(view, per_mille)
    assert (plan.view, plan.length, plan.loop) == (view, length, loop)
    assert plan.starts[0] == 0
    assert list(plan.starts) == sorted(set(plan.starts))
    assert loop or plan.starts[-1] + view == length
    overlaps = plan.overlaps
    assert len(overlaps) == (len(plan) if loop else len(plan) - 1)
    for i, overlap in enumerate(overlaps):  # what two neighbours share, counted
        after = (plan.starts[(i + 1) % len(plan)] - plan.starts[i]) % length or length
        assert overlap == sum(after <= p for p in range(view))
    assert all(overlap >= shared for overlap in overlaps)
    assert max(overlaps, default=0) - min(overlaps, default=0) <= 1
    assert {(s + p) % length for s in plan.starts for p in range(view)} == set(range(length))
    assert len(plan) == fewest_views(length, view, shared, loop)


@settings(max_examples=300, deadline=None)
@given(plans())
def test_mappings_of_a_plan_agree_with_counting(plan):
    by_column = shown(plan)
    assert plan.coverage.tolist() == [len(places) for places in by_column]
    for i, start in enumerate(plan.starts):
        assert plan.indices(i).tolist() == [(start + p) % plan.length for p in range(plan.view)]
    assert plan.columns.tolist() == [plan.indices(i).tolist() for i in range(len(plan))]
    views, local = plan.slots
    assert views.shape == local.shape == (max(map(len, by_column)), plan.length)
    for c, places in enumerate(by_column):
        padded = places + [places[0]] * (len(views) - len(places))
        assert list(zip(views[:, c].tolist(), local[:, c].tolist(), strict=True)) == padded


def test_earliest_on_a_ring_is_the_last_view_where_it_meets_the_first():
    views, local = plan_views(16, 10, 0.2, loop=True).slots  # starts 0 and 8
    assert (views[:, 0].tolist(), local[:, 0].tolist()) == ([1, 0], [8, 0])
    assert (views[:, 8].tolist(), local[:, 8].tolist()) == ([0, 1], [8, 0])


def test_panorama_of_the_paper_is_six_views():
    plan = plan_views(400, 80, 0.2)
    assert plan.starts == (0, 64, 128, 192, 256, 320)
    assert plan.overlaps == [16] * 5


def test_looped_24_seconds_of_the_paper_are_three_views():
    plan = plan_views(600, 250, 0.2, loop=True)
    assert plan.starts == (0, 200, 400)
    assert plan.overlaps == [50, 50, 50]


def test_left_over_columns_are_spread_over_all_overlaps():
    assert plan_views(399, 80, 0.2).overlaps == [17, 16, 16, 16, 16]
    assert plan_views(401, 80, 0.2).overlaps == [27, 26, 27, 26, 27, 26]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((79, 80), "`length` of at least one view .80 latent columns., got 79"),
        ((80, 0), "`view` of at least 1 latent column, got 0"),
        ((80, -4), "`view` of at least 1 latent column, got -4"),
        ((80, 40, 1.0), r"`overlap` in \[0, 1\), got 1.0"),
        ((80, 40, -0.1), r"`overlap` in \[0, 1\), got -0.1"),
        ((80, 40, float("nan")), r"`overlap` in \[0, 1\), got nan"),
    ],
)
def test_impossible_requests_are_refused_in_words(arguments, words):
    with pytest.raises(ValueError, match=words):
        plan_views(*arguments)


@pytest.mark.parametrize(
    "starts, view, length, loop",
    [
        ((0, 11), 10, 21, False),  # column 10 is nobody's
        ((0, 8), 10, 19, False),  # column 18 is nobody's
        ((1, 9), 10, 19, False),  # column 0 is nobody's
        ((0, 9), 10, 18, False),  # the last view reaches over the end
        ((8, 0), 10, 18, False),  # not ascending
        ((0, 0, 8), 10, 18, False),  # the same view twice
        ((0, 8), 10, 19, True),  # column 18 is nobody's
        ((0,), 10, 9, True),  # a view longer than its ring shows a column twice
        ((0,), 0, 0, False),
        ((5, 0), 10, 10, True),
    ],
)
def test_handmade_plan_with_a_hole_is_refused(starts, view, length, loop):
    with pytest.raises(ValueError, match="ascending and without a gap"):
        ViewPlan(starts, view, length, loop)


def test_plan_is_a_value():
    one, other = plan_views(40, 16, 0.2), plan_views(40, 16, 0.2)
    assert one.slots and one == other and hash(one) == hash(other)
    assert one != plan_views(40, 16, 0.2, loop=True)


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("join", [SwapJoin(), AverageJoin(), TriangularJoin()])
def test_an_hour_of_audio_is_planned_in_a_blink(join, loop, rows):
    begin = time.process_time()
    plan = plan_views(90_000, 256, 0.2, loop)
    fold = ViewFold(plan, join.weights(plan, rows), 4, -1)
    assert time.process_time() - begin < 2  # some 0.05 s; 2 s is a busy machine
    assert len(plan) == (442 if loop else 441)
    held = fold.sources + fold.shares + [fold.columns, *plan.slots, plan.coverage]
    assert sum(t.untyped_storage().nbytes() for t in held) < 16 * 2**20


def test_plan_looked_at_in_inference_mode_still_serves_gradients():
    with torch.inference_mode():
        plan = plan_views(20, 8, 0.25)
        plan.slots, plan.columns, plan.coverage  # noqa: B018
    assert not any(t.is_inference() for t in (*plan.slots, plan.columns, plan.coverage))
