"""Guided places against Eq. 10 written column by column; steps against the paper's numbers."""

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from safa_pack.safa_core import ReferenceGuide, ViewPlan, plan_views
from safa_pack.tests.safa_core.random_plans import plans, shown

pytestmark = pytest.mark.core


def middles(plan):
    """Each view's own columns that no other view shows (Eq. 3)."""
    alone = [places[0] for places in shown(plan) if len(places) == 1]
    return [sorted(p for view, p in alone if view == i) for i in range(len(plan))]


@settings(max_examples=150, deadline=None)
@given(plans(), st.sampled_from(["frames", "rows"]), st.integers(1, 12), st.integers(2, 5))
@example(plan_views(10, 10), "frames", 1, 2)  # one view: all of it is its middle
@example(plan_views(10, 10, 0, loop=True), "frames", 3, 2)
@example(plan_views(30, 10, 0), "frames", 2, 2)  # middles side by side
@example(plan_views(30, 10, 0, loop=True), "frames", 2, 2)
@example(ViewPlan((5, 13), 10, 16, loop=True), "frames", 1, 2)  # a middle lies across the end
def test_each_middle_alternates_from_its_own_first_column(plan, axis, interval, rows):
    own = middles(plan)
    assume(interval < (rows if axis == "rows" else max(map(len, own))) and any(own))
    guided, column = ReferenceGuide(interval=interval, axis=axis).places(plan, rows)
    expected = torch.zeros(rows, plan.length, dtype=torch.bool)
    for i, middle in enumerate(own):
        for m, p in enumerate(middle):
            c = (plan.starts[i] + p) % plan.length
            assert column[c] == p
            for row in range(rows):
                expected[row, c] = ((row if axis == "rows" else m) // interval) % 2 == 1
    assert guided.dtype == torch.bool and torch.equal(guided, expected)
    assert column.shape == (plan.length,) and ((0 <= column) & (column < plan.view)).all()


def test_guided_columns_of_two_views_written_out():
    guided, column = ReferenceGuide().places(plan_views(14, 8, 0.25))  # starts 0, 6; middles 0 to 5 and 8 to 13
    assert guided.int().tolist() == [[0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1]]
    assert column[8:].tolist() == [2, 3, 4, 5, 6, 7]


def test_guided_rows_of_two_views_written_out():
    guided, _ = ReferenceGuide(interval=2, axis="rows").places(plan_views(14, 8, 0.25), rows=5)
    assert guided.int().tolist() == [
        [0] * 14,
        [0] * 14,
        [1] * 6 + [0] * 2 + [1] * 6,
        [1] * 6 + [0] * 2 + [1] * 6,
        [0] * 14,
    ]


@pytest.mark.parametrize(
    "rate, steps, guided",
    [(0.3, 200, 60), (0.3, 50, 15), (0, 50, 0), (1, 50, 50), (0.3, 1, 0), (0.6, 1, 1), (0.29, 100, 29), (0.5, 5, 3)],
)
def test_guidance_lasts_for_the_papers_share_of_early_steps(rate, steps, guided):
    assert ReferenceGuide(rate).guided_steps(steps) == guided


def test_default_rate_is_the_papers():
    assert ReferenceGuide().rate == 0.3


@pytest.mark.parametrize("rate", [-0.01, 1.01, float("nan")])
def test_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ValueError, match=r"`rate` in \[0, 1\], got"):
        ReferenceGuide(rate)


def test_meaningless_patterns_are_refused_when_they_are_made():
    with pytest.raises(ValueError, match="`interval` of at least 1, got 0"):
        ReferenceGuide(interval=0)
    with pytest.raises(ValueError, match="`axis` to be one of frames, rows, got 'height'"):
        ReferenceGuide(axis="height")


@pytest.mark.parametrize(
    "guide, plan, rows, words",
    [
        (ReferenceGuide(), plan_views(40, 10, 0.5, loop=True), 1, "columns that only one view covers, got none"),
        (ReferenceGuide(), plan_views(10, 10, 0.2, loop=True), 1, "columns that only one view covers, got none"),
        (ReferenceGuide(interval=6), plan_views(14, 8, 0.25), 1, "`interval` below the longest middle of 6 columns"),
        (ReferenceGuide(interval=4, axis="rows"), plan_views(14, 8, 0.25), 4, "`interval` below the latent's 4 rows"),
        (ReferenceGuide(axis="rows"), plan_views(14, 8, 0.25), 1, "latent with rows, got one that has columns only"),
    ],
)
def test_guide_that_would_guide_nothing_is_refused(guide, plan, rows, words):
    with pytest.raises(ValueError, match=words):
        guide.places(plan, rows)


def test_longest_interval_that_fits_guides_one_column():
    guided, _ = ReferenceGuide(interval=5).places(plan_views(14, 8, 0.25))
    assert guided.nonzero().tolist() == [[0, 5], [0, 13]]
