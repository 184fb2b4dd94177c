"""ViewFold against loops over views, rows and columns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safa_pack.safa_core import AverageJoin, SwapJoin, TriangularJoin, plan_views
from safa_pack.safa_core.fold import ViewFold, on_axes, short_axis
from safa_pack.tests.safa_core.random_plans import plans, shown

pytestmark = pytest.mark.core

# shape without its long axis, where the long axis goes, which of the result's axes are rows
LATENTS = {
    "audio tokens": ((2, 3), -1, None),
    "picture": ((2, 3, 4), -1, 2),
    "tall picture": ((2, 3, 4), 2, 3),
    "tall picture, from behind": ((2, 3, 4), -2, 3),
    "video, wide": ((1, 2, 3, 4), -1, 3),
    "video, tall": ((1, 2, 3, 4), 3, 4),
    "video, long": ((1, 2, 3, 4), 2, 4),
}


def latent(kind, columns, dtype=torch.float64):
    """A random latent of `columns` columns, its axis, the axis of its rows and their number."""
    others, axis, rows_axis = LATENTS[kind]
    x = torch.randn(*others, columns, dtype=torch.float64).movedim(-1, axis).contiguous().to(dtype)
    return x, axis, rows_axis, 1 if rows_axis is None else x.shape[rows_axis]


def columns_last(x, axis, rows_axis):
    """[..., rows, columns] with any other axes in front."""
    axis %= x.ndim
    return x.movedim((axis,) if rows_axis is None else (rows_axis, axis), (-1,) if rows_axis is None else (-2, -1))


@pytest.mark.parametrize("kind", LATENTS)
@pytest.mark.parametrize("loop", [False, True])
def test_gather_lays_each_views_columns_side_by_side(kind, loop):
    plan = plan_views(23, 8, 0.3, loop)
    x, axis, _, _ = latent(kind, plan.length)
    side_by_side = ViewFold(plan, AverageJoin().weights(plan), x.ndim, axis, dtype=x.dtype).gather(x)
    expected = [x.select(axis, (s + p) % plan.length) for s in plan.starts for p in range(plan.view)]
    assert torch.equal(side_by_side, torch.stack(expected, axis))


@pytest.mark.parametrize("kind", LATENTS)
@pytest.mark.parametrize("overlap", [0, 0.3, 0.75])
@pytest.mark.parametrize("loop", [False, True])
def test_scatter_is_the_weighted_sum_of_eq_4(kind, overlap, loop):
    plan = plan_views(23, 8, overlap, loop)
    views, axis, rows_axis, rows = latent(kind, len(plan) * plan.view)
    weights = torch.rand(len(plan), rows, plan.view, dtype=torch.float64)
    canvas = ViewFold(plan, weights, views.ndim, axis, dtype=views.dtype).scatter(views)
    canvas, views = columns_last(canvas, axis, rows_axis), columns_last(views, axis, rows_axis)
    assert canvas.shape[-1] == plan.length
    for c, places in enumerate(shown(plan)):
        for r in range(rows):
            row = () if rows_axis is None else (r,)
            total = sum(weights[i, r, p] * views[(..., *row, i * plan.view + p)] for i, p in places)
            torch.testing.assert_close(canvas[(..., *row, c)], total, rtol=1e-12, atol=1e-12)


def test_average_is_multidiffusions_formula_up_to_the_last_column():
    plan = plan_views(31, 8, 0.75)
    views = torch.randn(len(plan), 2, 3, 4, plan.view, dtype=torch.float64)
    value, count = torch.zeros(2, 3, 4, plan.length, dtype=torch.float64), torch.zeros(plan.length)
    for view, start in zip(views, plan.starts, strict=True):
        value[..., start : start + plan.view] += view
        count[start : start + plan.view] += 1
    fold = ViewFold(plan, AverageJoin().weights(plan, 4), 4, -1, dtype=torch.float64)
    canvas = fold.scatter(torch.cat(list(views), -1))
    torch.testing.assert_close(canvas, value / count, rtol=1e-6, atol=1e-6)
    assert (canvas[..., -1] != 0).all()


def test_what_lies_behind_the_views_is_not_read():
    plan = plan_views(23, 8, 0.3)
    fold = ViewFold(plan, SwapJoin().weights(plan), 4, -1)
    views = torch.randn(1, 2, 3, len(plan) * plan.view)
    with_reference = torch.cat([views, torch.full((1, 2, 3, plan.view), float("nan"))], -1)
    assert torch.equal(fold.scatter(with_reference), fold.scatter(views))


@settings(max_examples=150, deadline=None)
@given(plans(), st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]))
def test_swap_hands_every_value_through_unchanged(plan, dtype):
    x = torch.randn(2, 3, 4, plan.length).to(dtype)
    fold = ViewFold(plan, SwapJoin().weights(plan, 4), 4, -1, dtype=dtype)
    assert torch.equal(fold.scatter(fold.gather(x)), x)
    numbers = torch.arange(len(plan) * plan.view, dtype=torch.float64).expand(1, 1, 4, -1)
    chosen = ViewFold(plan, SwapJoin().weights(plan, 4), 4, -1, dtype=torch.float64).scatter(numbers)
    assert torch.equal(chosen, chosen.round())  # a value of one view, never a mixture


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("join", [AverageJoin(), TriangularJoin()])
def test_views_that_agree_do_not_drift_in_half_precision(join, dtype):
    plan = plan_views(80, 16, 0.8)
    x = torch.randn(2, 3, 4, plan.length).to(dtype)
    fold = ViewFold(plan, join.weights(plan, 4), 4, -1, dtype=dtype)
    joined = fold.scatter(fold.gather(x))
    assert joined.dtype == dtype and torch.equal(joined, x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_views_that_agree_stay_as_they_are(dtype):
    plan = plan_views(80, 16, 0.8)
    x = torch.randn(2, 3, 4, plan.length, dtype=dtype)
    fold = ViewFold(plan, TriangularJoin().weights(plan, 4), 4, -1, dtype=dtype)
    joined = fold.scatter(fold.gather(x))
    assert joined.dtype == dtype
    torch.testing.assert_close(joined, x, rtol=1e-6, atol=1e-6)


def test_same_views_same_bits():
    plan = plan_views(4000, 64, 0.8)
    views = torch.randn(1, 4, 32, len(plan) * plan.view)
    first, again = (ViewFold(plan, AverageJoin().weights(plan, 32), 4, -1).scatter(views) for _ in range(2))
    assert torch.equal(first, again)


def test_neither_the_views_nor_the_weights_are_written():
    plan = plan_views(23, 8, 0.3)
    views, weights = torch.randn(1, 2, 3, len(plan) * plan.view), AverageJoin().weights(plan, 3)
    before = views.clone(), weights.clone()
    ViewFold(plan, weights, 4, -1).scatter(views)
    assert torch.equal(views, before[0]) and torch.equal(weights, before[1])


def test_gradients_flow_through_a_fold_made_in_inference_mode():
    with torch.inference_mode():
        plan = plan_views(23, 8, 0.3)
        fold = ViewFold(plan, SwapJoin().weights(plan), 4, -1)
    x = torch.randn(1, 2, 3, plan.length, requires_grad=True)
    fold.scatter(fold.gather(x)).sum().backward()
    assert (x.grad == 1).all()


def test_rows_are_the_last_axis_that_is_not_the_long_one():
    assert short_axis(3, -1) is None
    assert [short_axis(4, axis) for axis in (-1, 2)] == [2, 3]
    assert [short_axis(5, axis) for axis in (-1, 3, 2)] == [3, 4, 4]


def test_weights_with_rows_do_not_fit_a_latent_without():
    with pytest.raises(ValueError, match="latent with rows, got one that has columns only: use the axis `frames`"):
        on_axes(torch.ones(2, 8), 3, -1)
