"""joint_denoise against Algorithm 1 written out column by column: not one bit may differ."""

import pytest
import torch

from safa_pack.safa_core import AverageJoin, ReferenceGuide, SwapJoin, joint_denoise, plan_views
from safa_pack.tests.nodes.literal import literal_algorithm_1
from safa_pack.tests.pairs import pairwise

pytestmark = pytest.mark.core

STEPS = 4
PLANS = {
    "one view": plan_views(16, 16),
    "open": plan_views(43, 16, 0.3),
    "loop": plan_views(43, 16, 0.3, loop=True),
    "loop of two": plan_views(22, 16, 0.3, loop=True),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors this small cost more to share out than to compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def toy(x, k, i):
    """One step of a nonlinear model [B, C, rows, view]: every place sees its neighbours, the step and the prompt."""
    x = x.contiguous()
    around = x.roll(1, -1) - 0.5 * x.roll(-3, -1) + 0.3 * x.roll(1, -2) + x.mean((-1, -2), keepdim=True)
    return 0.8 * torch.tanh(x + 0.4 * around) + 0.05 * torch.cos(around * (k + 1)) + 0.1 * i


def toy_step(views, k):
    """The same for all views together."""
    return torch.stack([toy(x, k, i) for i, x in enumerate(views)])


def noise(plan, *shape, seed=0):
    """Initial noise of the canvas and of the reference."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, columns, generator=generator) for columns in (plan.length, plan.view)]


# test_joins and test_guide prove the weights of every plan, interval and axis column by column
@pytest.mark.parametrize(
    "name, interval, batch, rate, axis", pairwise(PLANS, [1, 2, 4], [1, 2], [0, 0.3, 1], ["frames", "rows"])
)
def test_result_is_algorithm_1_bit_for_bit(name, interval, batch, rate, axis):
    plan = PLANS[name]
    canvas, reference = noise(plan, batch, 3, 5)
    guide = ReferenceGuide(rate, interval, axis)
    got = joint_denoise(toy_step, canvas, plan, STEPS, SwapJoin(interval), guide, reference)
    guided = {0: 0, 0.3: 1, 1: 4}[rate]
    literal = literal_algorithm_1(
        toy, canvas, reference, plan.starts, plan.view, STEPS, plan.loop, interval, guided, interval, axis == "rows"
    )
    assert torch.isfinite(literal[0]).all()
    assert torch.equal(got[0], literal[0]) and torch.equal(got[1], literal[1])


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("interval", [1, 2, 4])
def test_self_loop_alone_is_algorithm_1_bit_for_bit(plan, interval):
    canvas, _ = noise(plan, 2, 3, 5)
    got, nothing = joint_denoise(toy_step, canvas, plan, STEPS, SwapJoin(interval))
    literal, _ = literal_algorithm_1(toy, canvas, None, plan.starts, plan.view, STEPS, plan.loop, interval)
    assert nothing is None
    assert torch.isfinite(literal).all() and torch.equal(got, literal)


def test_audio_tokens_without_rows_are_joined_too():
    plan = PLANS["loop"]
    canvas, reference = noise(plan, 2, 3)

    def token_step(views, k):
        return toy_step(views.unsqueeze(-2), k).squeeze(-2)

    got = joint_denoise(token_step, canvas, plan, STEPS, SwapJoin(2), ReferenceGuide(0.3), reference)
    literal = literal_algorithm_1(
        toy, canvas.unsqueeze(2), reference.unsqueeze(2), plan.starts, plan.view, STEPS, True, 2, guided=1
    )
    assert torch.equal(got[0], literal[0].squeeze(2)) and torch.equal(got[1], literal[1].squeeze(2))


@pytest.mark.parametrize("swap_axis", ["frames", "rows"])
@pytest.mark.parametrize("guide_axis", ["frames", "rows"])
@pytest.mark.parametrize("turn", [(3, 2), (-1, -2)])
def test_a_tall_picture_is_a_wide_one_lying_down(swap_axis, guide_axis, turn):
    plan = PLANS["open"]
    canvas, reference = noise(plan, 1, 3, 5)
    settings = plan, STEPS, SwapJoin(2, axis=swap_axis), ReferenceGuide(0.3, 2, guide_axis)
    wide = joint_denoise(toy_step, canvas, *settings, reference)
    tall = joint_denoise(lambda views, k: toy_step(views.mT, k).mT, canvas.mT, *settings, reference.mT, axis=turn[1])
    assert torch.equal(tall[0].mT, wide[0]) and torch.equal(tall[1].mT, wide[1])


@pytest.mark.parametrize("axis", [2, 3, 4, -3])
def test_video_is_long_where_the_caller_says(axis):
    """[B, C, ...] with three axes: the rows are the last that is not long, the other one goes along."""
    plan = PLANS["open"]
    canvas, reference = noise(plan, 2, 3, 2, 5)  # [B, C, other, rows, length]
    settings = plan, 4, SwapJoin(1, axis="rows"), ReferenceGuide(0.5, 1, "rows")
    # of (2, 3, 4): where other, rows and length go
    order = {2: (0, 1, 4, 2, 3), 3: (0, 1, 2, 4, 3), 4: (0, 1, 2, 3, 4)}[axis % 5]
    back = sorted(range(5), key=order.__getitem__)

    def flat_step(views, k):
        return torch.stack([toy(v.flatten(0, 2), k, i).reshape(v.shape) for i, v in enumerate(views)])

    def turned_step(views, k):
        stacked_back = [0, *(b + 1 for b in back)]
        return flat_step(views.permute(stacked_back), k).permute([0, *(o + 1 for o in order)])

    def flat_toy(x, k, i):
        return toy(x.flatten(0, 2), k, i).reshape(x.shape)

    got = joint_denoise(turned_step, canvas.permute(order), *settings, reference.permute(order), axis=axis)
    canvas = by_hand(flat_toy, canvas, reference, plan, 4, guided=2)
    assert torch.equal(got[0].permute(back), canvas)


def by_hand(step, canvas, reference, plan, steps, guided):
    """Algorithm 1 with both swaps by rows, w = 1, on an open plan: odd rows are the later view's, the reference's."""
    for k in range(steps):
        views = [step(canvas[..., s : s + plan.view], k, i) for i, s in enumerate(plan.starts)]
        reference = step(reference, k, len(views))
        canvas = torch.full_like(canvas, float("nan"))
        for c in range(plan.length):
            shows = [(v, c - s) for v, s in zip(views, plan.starts, strict=True) if 0 <= c - s < plan.view]
            for r in range(canvas.shape[-2]):
                view, p = shows[r % len(shows)]
                if len(shows) == 1 and r % 2 and k < guided:
                    view = reference
                canvas[..., r, c] = view[..., r, p]
    return canvas


def test_every_step_sees_all_views_of_the_canvas_and_the_reference_last():
    plan = PLANS["loop"]
    canvas, reference = noise(plan, 2, 3, 5)
    seen = []

    def watching(views, k):
        seen.append((k, views.clone()))
        return views

    joint_denoise(watching, canvas, plan, 3, SwapJoin(), ReferenceGuide(0), reference)
    assert [k for k, _ in seen] == [0, 1, 2]
    first = seen[0][1]
    assert first.shape == (len(plan) + 1, 2, 3, 5, plan.view)
    for i in range(len(plan)):
        assert torch.equal(first[i], canvas[..., plan.indices(i)])
    assert torch.equal(first[-1], reference)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_latents_keep_their_dtype(dtype):
    plan = plan_views(80, 16, 0.8)
    canvas = torch.randn(1, 3, 5, plan.length).to(dtype)
    kept, _ = joint_denoise(lambda views, k: views, canvas, plan, 20, SwapJoin())
    assert kept.dtype == dtype and torch.equal(kept, canvas)
    averaged, _ = joint_denoise(lambda views, k: views, canvas, plan, 20, AverageJoin())
    assert averaged.dtype == dtype
    torch.testing.assert_close(averaged, canvas, rtol=2e-6, atol=2e-6)


def test_input_is_left_alone():
    plan = PLANS["open"]
    canvas, reference = noise(plan, 1, 3, 5)
    before = canvas.clone(), reference.clone()
    joint_denoise(toy_step, canvas, plan, 2, SwapJoin(), ReferenceGuide(1), reference)
    assert torch.equal(canvas, before[0]) and torch.equal(reference, before[1])


def never(views, k):
    """A model that must not run."""
    raise AssertionError("the model ran")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"canvas": torch.zeros(1, 3, 5, 44)}, r"canvas of 43 columns \(the plan's\), got 44"),
        ({"axis": 2}, r"canvas of 43 columns \(the plan's\), got 5"),
        ({"reference": None}, "`guide` and `reference` together, got only one"),
        ({"guide": None}, "`guide` and `reference` together, got only one"),
        ({"reference": torch.zeros(1, 3, 5, 17)}, r"reference of one view, \[1, 3, 5, 16\], got \[1, 3, 5, 17\]"),
        ({"reference": torch.zeros(2, 3, 5, 16)}, r"reference of one view, \[1, 3, 5, 16\], got \[2, 3, 5, 16\]"),
        ({"join": SwapJoin(interval=9)}, "`interval` of at most"),
        ({"join": SwapJoin(shift=9)}, "`shift` below the overlap"),
        ({"guide": ReferenceGuide(interval=16)}, "`interval` below the longest middle"),
        ({"guide": ReferenceGuide(interval=5, axis="rows")}, "`interval` below the latent's 5 rows"),
    ],
)
def test_wrong_input_is_refused_before_the_model_runs(change, words):
    plan = PLANS["open"]
    arguments = {
        "canvas": torch.zeros(1, 3, 5, 43),
        "plan": plan,
        "steps": 4,
        "join": SwapJoin(),
        "guide": ReferenceGuide(),
        "reference": torch.zeros(1, 3, 5, 16),
    }
    with pytest.raises(ValueError, match=words):
        joint_denoise(never, **{**arguments, **change})


@pytest.mark.parametrize("operators", [(SwapJoin(axis="rows"),), (SwapJoin(), ReferenceGuide(axis="rows"))])
def test_rows_of_a_latent_without_rows_are_refused(operators):
    plan = PLANS["open"]
    canvas, reference = noise(plan, 1, 3)
    with pytest.raises(ValueError, match="latent with rows, got one that has columns only"):
        joint_denoise(never, canvas, plan, 4, *operators, *([reference] if len(operators) == 2 else []))


def test_guide_without_a_middle_is_refused():
    plan = plan_views(43, 16, 0.5, loop=True)
    canvas, reference = noise(plan, 1, 3, 5)
    with pytest.raises(ValueError, match="columns that only one view covers, got none"):
        joint_denoise(never, canvas, plan, 4, SwapJoin(), ReferenceGuide(), reference)
