"""Merging tokens of views on the canvas, against dictionaries of columns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safa_pack.safa_core import ViewPlan, plan_views
from safa_pack.safa_core.methods.merge_attend import CanvasTokens, is_aligned, nearest_aligned, token_plan
from safa_pack.tests.safa_core.random_plans import plans

pytestmark = pytest.mark.core

RING = ViewPlan((1, 4, 6), 5, 9, loop=True)
OPEN = ViewPlan((0, 2, 3), 5, 8)


def means(tokens, plan, grid, axis):
    """{(row, column) of the canvas: mean over the views that show it}, [M, C] each; tokens [views, M, n, C]."""
    seen = {}
    for i, start in enumerate(plan.starts):
        for n in range(grid[0] * grid[1]):
            place = [n // grid[1], n % grid[1]]
            place[axis] = (place[axis] + start) % plan.length
            seen.setdefault(tuple(place), []).append(tokens[i, :, n])
    return {place: sum(values) / len(values) for place, values in seen.items()}


def random_tokens(plan, grid, axis, batch=2, width=3):
    grid = tuple(plan.view if d == axis else n for d, n in enumerate(grid))
    shape = (len(plan), batch, grid[0] * grid[1], width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)), grid


@settings(max_examples=60, deadline=None)
@given(plans(), st.sampled_from([0, 1]), st.integers(1, 3))
def test_every_canvas_token_is_the_mean_of_the_views_that_show_it(plan, axis, across):
    tokens, grid = random_tokens(plan, (across, across), axis)
    merging = CanvasTokens(plan, grid, axis)
    canvas, expected = merging.merge(tokens), means(tokens, plan, grid, axis)
    columns = merging.canvas_grid[1]
    assert canvas.shape == (2, len(expected), 3)
    for (row, column), mean in expected.items():
        assert (canvas[:, row * columns + column] - mean).abs().max() <= 1e-6
    views = merging.crop(canvas)
    for i, start in enumerate(plan.starts):
        for n in range(grid[0] * grid[1]):
            place = [n // grid[1], n % grid[1]]
            place[axis] = (place[axis] + start) % plan.length
            assert torch.equal(views[i, :, n], canvas[:, place[0] * columns + place[1]])


@pytest.mark.parametrize("plan", [OPEN, RING])
@pytest.mark.parametrize("axis", [0, 1])
def test_views_that_agree_are_not_changed(plan, axis):
    tokens, grid = random_tokens(plan, (2, 2), axis)
    merging = CanvasTokens(plan, grid, axis)
    agreeing = merging.crop(merging.merge(tokens))
    assert (merging.crop(merging.merge(agreeing)) - agreeing).abs().max() <= 1e-6


def test_a_single_view_keeps_its_bits():
    tokens, grid = random_tokens(ViewPlan((0,), 5, 5), (2, 2), 1)
    merging = CanvasTokens(ViewPlan((0,), 5, 5), grid, 1)
    assert torch.equal(merging.crop(merging.merge(tokens)), tokens)


def test_half_precision_is_summed_in_full_precision():
    tokens, grid = random_tokens(OPEN, (2, 2), 1)
    half = tokens.half()
    merged = CanvasTokens(OPEN, grid, 1, dtype=torch.float16).merge(half)
    assert merged.dtype == torch.float16
    exact = CanvasTokens(OPEN, grid, 1).merge(half.float())
    assert (merged.float() - exact).abs().max() <= 1e-3


def test_a_grid_of_another_length_is_refused():
    with pytest.raises(ValueError, match="Expected 5 tokens along axis 1"):
        CanvasTokens(OPEN, (2, 4), 1)


def test_a_plan_counts_in_tokens():
    assert token_plan(ViewPlan((0, 4, 8), 8, 16), 4) == ViewPlan((0, 1, 2), 2, 4)
    assert token_plan(RING, 1) == RING
    with pytest.raises(ValueError, match=r"multiples of 4.*\(0, 6\)"):
        token_plan(ViewPlan((0, 6), 8, 14), 4)


@settings(max_examples=80, deadline=None)
@given(st.integers(4, 60), st.integers(0, 120), st.integers(0, 95), st.booleans(), st.sampled_from([2, 4, 8]))
def test_the_plan_that_an_error_names_is_one_that_fits(view, more, percent, loop, factor):
    plan = plan_views(view + more, view, percent / 100, loop)
    like, overlap = nearest_aligned(plan, factor)
    assert like == plan_views(like.length, like.view, overlap, loop)
    assert is_aligned(like, factor) and abs(like.view - view) <= max(factor / 2, factor - view)
    token_plan(like, factor)


def test_the_nearest_plan_keeps_what_can_be_kept():
    # 24 s of AudioLDM as a loop at MultiDiffusion's overlap: steps of 50 columns, and of 40 at 0.84
    like, overlap = nearest_aligned(plan_views(600, 256, 0.8, True), 8)
    assert (like.length, like.view, overlap) == (600, 256, 0.84)
    like, overlap = nearest_aligned(plan_views(601, 256, 0.2, True), 8)
    assert (like.length, like.view, overlap) == (600, 256, 0.21)  # what its three views share, 56 columns or more
