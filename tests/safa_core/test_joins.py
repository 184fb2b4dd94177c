"""Join operators against their formulas, written column by column."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from safa_pack.safa_core import AverageJoin, SwapJoin, TriangularJoin, ViewPlan, plan_views, swap_pattern
from safa_pack.tests.safa_core.random_plans import plans, shown

pytestmark = pytest.mark.core

TWO = plan_views(18, 10, 0.2)  # starts 0, 8: the overlap is columns 8, 9
RING = plan_views(16, 10, 0.2, loop=True)  # starts 0, 8: overlaps are columns 8, 9 and 0, 1


@st.composite
def swaps(draw):
    """(plan, SwapJoin that fits it, rows)."""
    plan = draw(plans())
    shortest = min((o for o in plan.overlaps if o), default=1)
    shift = draw(st.integers(0, shortest - 1))
    axis, rows = draw(st.sampled_from(["frames", "rows"])), draw(st.integers(2, 5))
    interval = draw(st.integers(1, rows - 1 if axis == "rows" else shortest - shift))
    return plan, SwapJoin(interval, shift, axis), rows


def unity(plan, weights):
    """Sum of all views' weights on every canvas place, [rows, length], float64."""
    total = torch.zeros(weights.shape[1], plan.length, dtype=torch.float64)
    for i in range(len(plan)):
        total[:, plan.indices(i)] += weights[i].double()
    return total


def taking_turns(plan, shift):
    """For each column the places that take turns: not in a view's last `shift` columns, unless no other is left."""
    return [[(i, p) for i, p in places if p < plan.view - shift] or places[-1:] for places in shown(plan)]


def literal_owner(turns, join, row, c):
    """The place whose value canvas place (row, c) gets: Eq. 9, going round the k views that meet."""
    here = turns[c]
    steps = row
    if join.axis == "frames":
        steps, back = 0, c
        while True:  # walk back to where this meeting of views began
            back = (back - 1) % len(turns)
            if turns[back] != [(i, p - 1 - steps) for i, p in here]:
                break
            steps += 1
    return here[(steps // join.interval) % len(here)]


def deciders(weights, plan, row=0):
    """The view that decides each canvas column, of binary weights."""
    owner = [None] * plan.length
    for i, row_weights in enumerate(weights[:, row].tolist()):
        for c, w in zip(plan.indices(i).tolist(), row_weights, strict=True):
            if w:
                owner[c] = i
    return owner


@pytest.mark.parametrize(
    "interval, values",
    [(1, [0, 1, 0, 1, 0, 1, 0]), (2, [0, 0, 1, 1, 0, 0, 1]), (3, [0, 0, 0, 1, 1, 1, 0]), (9, [0] * 7)],
)
def test_eq_9_written_out(interval, values):
    pattern = swap_pattern(7, interval)
    assert pattern.tolist() == values
    assert pattern.dtype == torch.float32


def test_eq_9_starts_at_one_interval_by_default():
    assert swap_pattern(4).tolist() == [0, 1, 0, 1]
    assert swap_pattern(0).tolist() == []


@settings(max_examples=300, deadline=None)
@given(swaps())
@example((plan_views(10, 10, 0.2, loop=True), SwapJoin(2), 2))
@example((plan_views(12, 10, 0.5, loop=True), SwapJoin(), 2))
@example((plan_views(1, 1), SwapJoin(), 2))
@example((plan_views(30, 10, 0.9), SwapJoin(1, 5), 2))
def test_no_column_is_counted_twice_or_lost(case):
    plan, swap, rows = case
    weights = swap.weights(plan, rows)
    assert weights.shape == (len(plan), rows, plan.view) and weights.dtype == torch.float32
    assert ((weights == 0) | (weights == 1)).all()
    assert (unity(plan, weights) == 1).all()
    for join in (AverageJoin(), TriangularJoin()):
        weights = join.weights(plan, rows)
        assert weights.shape == (len(plan), rows, plan.view) and weights.dtype == torch.float32
        assert (weights > 0).all()
        torch.testing.assert_close(unity(plan, weights), torch.ones(rows, plan.length).double(), rtol=0, atol=1e-6)


@settings(max_examples=150, deadline=None)
@given(swaps())
@example((plan_views(10, 10, 0.2, loop=True), SwapJoin(), 2))  # the same two views meet all round the ring
@example((plan_views(10, 10, 0.8, loop=True), SwapJoin(1, 2), 2))
@example((plan_views(30, 10, 0.9), SwapJoin(1, 5), 2))  # the canvas ends in tails only
@example((plan_views(96, 16, 0.75), SwapJoin(2), 2))  # four views on a column
@example((plan_views(96, 16, 0.75), SwapJoin(2, axis="rows"), 5))
def test_views_take_turns_as_eq_9_says_however_many_meet(case):
    plan, join, rows = case
    weights, turns = join.weights(plan, rows), taking_turns(plan, join.shift)
    for row in range(rows):
        for c in range(plan.length):
            view, p = literal_owner(turns, join, row, c)
            assert weights[view, row, p] == 1


def test_first_overlap_column_comes_from_the_earlier_view():
    assert deciders(SwapJoin().weights(TWO), TWO)[7:11] == [0, 0, 1, 1]


def test_first_overlap_column_of_the_wrap_comes_from_the_last_view():
    owner = deciders(SwapJoin().weights(RING), RING)
    assert (owner[:3], owner[7:11]) == ([1, 0, 0], [0, 0, 1, 1])


def test_wider_intervals_swap_in_blocks():
    plan = plan_views(30, 18, 0.33)  # starts 0, 12: the overlap is columns 12 to 17
    assert deciders(SwapJoin(2).weights(plan), plan)[12:18] == [0, 0, 1, 1, 0, 0]
    assert deciders(SwapJoin(3).weights(plan), plan)[12:18] == [0, 0, 0, 1, 1, 1]


def test_swap_by_rows_gives_whole_row_segments():
    weights = SwapJoin(2, axis="rows").weights(TWO, rows=5)
    assert [deciders(weights, TWO, row)[8:10] for row in range(5)] == [[0, 0], [0, 0], [1, 1], [1, 1], [0, 0]]


def test_three_views_of_eight_columns_go_round_from_the_earliest():
    plan = ViewPlan((0, 2, 4), 8, 12)  # columns 4 and 5 are everybody's
    assert deciders(SwapJoin().weights(plan), plan) == [0, 0, 0, 1, 0, 1, 2, 0, 1, 2, 2, 2]


def test_a_ring_of_one_views_length_is_swapped_at_both_overlaps():
    plan = plan_views(8, 8, 0.2, loop=True)  # starts 0, 4
    assert deciders(SwapJoin().weights(plan), plan) == [1, 0, 1, 0, 0, 1, 0, 1]


@settings(max_examples=150, deadline=None)
@given(swaps())
@example((plan_views(30, 10, 0.9), SwapJoin(1, 5), 2))
@example((plan_views(30, 10, 0.9, loop=True), SwapJoin(1, 8), 2))
def test_last_columns_of_a_window_are_never_heard_where_another_view_has_them(case):
    plan, join, rows = case
    by_column = shown(plan)
    for view, row, p in join.weights(plan, rows).nonzero().tolist():
        others = [q for i, q in by_column[(plan.starts[view] + p) % plan.length] if i != view]
        assert p < plan.view - join.shift or all(q > p for q in others), row


def test_shift_of_safa_plus_written_out():
    plan = plan_views(30, 18, 0.33)  # the overlap is columns 12 to 17
    assert deciders(SwapJoin(shift=3).weights(plan), plan)[11:19] == [0, 0, 1, 0, 1, 1, 1, 1]


@settings(max_examples=100, deadline=None)
@given(plans())
def test_average_is_multidiffusions_sum_over_count(plan):
    counts = [len(places) for places in shown(plan)]
    weights = AverageJoin().weights(plan, rows=2)
    for i in range(len(plan)):
        expected = [1 / counts[c] for c in plan.indices(i).tolist()]
        assert weights[i].tolist() == [pytest.approx(expected, abs=1e-7)] * 2


@settings(max_examples=100, deadline=None)
@given(plans())
def test_triangle_gives_each_view_its_distance_from_the_nearer_end(plan):
    def distance(p):
        return min(p + 1, plan.view - p)

    weights = TriangularJoin().weights(plan, rows=2)
    for places in shown(plan):
        total = sum(distance(p) for _, p in places)
        for i, p in places:
            assert weights[i, :, p].tolist() == [pytest.approx(distance(p) / total, abs=1e-6)] * 2


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"interval": 0}, "`interval` of at least 1, got 0"),
        ({"interval": -2}, "`interval` of at least 1, got -2"),
        ({"shift": -1}, "`shift` of at least 0 columns, got -1"),
        ({"axis": "columns"}, "`axis` to be one of frames, rows, got 'columns'"),
        ({"axis": "auto"}, "`axis` to be one of frames, rows, got 'auto'"),
    ],
)
def test_meaningless_swaps_are_refused_when_they_are_made(arguments, words):
    with pytest.raises(ValueError, match=words):
        SwapJoin(**arguments)


@pytest.mark.parametrize(
    "join, rows, words",
    [
        (SwapJoin(interval=3), 1, "`interval` of at most 2 overlapping columns, got 3"),
        (SwapJoin(interval=2, shift=1), 1, "`interval` of at most 1 overlapping columns, got 2"),
        (SwapJoin(shift=2), 1, "`shift` below the overlap of 2 columns, got 2"),
        (SwapJoin(shift=2, axis="rows"), 4, "`shift` below the overlap of 2 columns, got 2"),
        (SwapJoin(interval=4, axis="rows"), 4, "`interval` below the latent's 4 rows, got 4"),
        (SwapJoin(axis="rows"), 1, "latent with rows, got one that has columns only: use the axis `frames`"),
    ],
)
@pytest.mark.parametrize("plan", [TWO, RING])
def test_swaps_that_the_overlap_has_no_room_for_are_refused(plan, join, rows, words):
    with pytest.raises(ValueError, match=words):
        join.weights(plan, rows)


def test_longest_interval_and_shift_that_fit_are_accepted():
    assert deciders(SwapJoin(2).weights(TWO), TWO)[8:10] == [0, 0]
    assert deciders(SwapJoin(shift=1).weights(TWO), TWO)[8:10] == [0, 1]


def test_one_view_and_views_side_by_side_need_no_overlap():
    for plan in (plan_views(10, 10), plan_views(10, 10, 0, loop=True), plan_views(30, 10, 0)):
        assert (SwapJoin(99, 5).weights(plan) == 1).all()
