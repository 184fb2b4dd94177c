import copy

import pytest
import torch

import comfy.hooks
import comfy.samplers
import node_helpers
from comfy_extras.nodes_hooks import CreateHookKeyframe, PairConditioningSetDefaultAndCombine

import nodes as host_nodes
from safa_pack.nodes.canvas import Guide
from safa_pack.nodes.joint.patch import JointPatch
from safa_pack.nodes.joint.regions import SPAN
from safa_pack.safa_core import AverageJoin, SwapJoin
from safa_pack.tests import tiny_models
from safa_pack.tests.nodes.host_calls import Forwards, canvas_of, crop, difference, joint, separate

pytestmark = pytest.mark.host

WIDE, TALL = (1, 4, 12, 44), (1, 4, 44, 12)


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


def prompt(seed, kind="toy", **values):
    return tiny_models.conditioning(kind, seed, **values)


def spanned(cond, first, last):
    return node_helpers.conditioning_set_values(cond, {SPAN: (first, last)})


def masked(cond, mask, strength=1.0, bounds=False):
    return host_nodes.ConditioningSetMask().append(cond, mask, "mask bounds" if bounds else "default", strength)[0]


def within(cond, start, end):
    return host_nodes.ConditioningSetTimestepRange().set_range(cond, start, end)[0]


def rows_and_columns(canvas, rows, columns):
    """Sizes or offsets (height, width) of a canvas whose long axis has `columns`."""
    return (rows, columns) if canvas.axis == 3 else (columns, rows)


def area(canvas, cond, rows, columns, strength=1.0):
    """The host's node, with (first, size) of rows across and columns along, in latents."""
    height, width = rows_and_columns(canvas, rows[1], columns[1])
    y, x = rows_and_columns(canvas, rows[0], columns[0])
    return host_nodes.ConditioningSetArea().append(cond, width * 8, height * 8, x * 8, y * 8, strength)[0]


def host_weights(canvas, cond):
    """Where and how strongly the host applies a cond with an area on the whole canvas: [rows, columns] and its rows."""
    height, width = canvas.shape[1:]
    noise = torch.zeros(1, *canvas.shape)
    conds = [{**cond[0][1], "model_conds": {}, "uuid": None}]
    comfy.samplers.resolve_areas_and_cond_masks_multidim(conds, noise.shape[2:], "cpu")
    used = comfy.samplers.get_area_and_mult({**conds[0], "strength": 1.0}, noise, torch.ones(1))
    h, w, y, x = used.area
    weights = torch.zeros(height, width)
    weights[y : y + h, x : x + w] = used.mult[0, 0]
    return weights, ((h, y) if canvas.axis == 3 else (w, x))


def area_in_view(canvas, cond, i):
    """What the pack promises for an area: cut across the long axis as the host does, a mask along it."""
    weights, (size, offset) = host_weights(canvas, cond)
    mask = crop(weights.unsqueeze(0), canvas, i, canvas.axis - 1)
    if not mask.any():
        return []
    drawn = ("area", "mask", "mask_strength", "set_area_to_bounds")
    plain = [[t, {k: v for k, v in d.items() if k not in drawn}] for t, d in cond]
    sizes = rows_and_columns(canvas, size, canvas.plan.view)
    offsets = rows_and_columns(canvas, offset, 0)
    return node_helpers.conditioning_set_values(plain, {"mask": mask, "area": (*sizes, *offsets)})


def check(canvas, positive, conds, negative=None, model=None, limit=1e-5, **options):
    model = tiny_models.toy() if model is None else model
    negative = prompt(99) if negative is None else negative
    together = joint(model, canvas, positive, negative, **options)
    options.pop("patch", None)
    apart = separate(model, canvas, conds, **options)
    assert difference(together, apart) <= limit
    return together


@pytest.mark.parametrize(("shape", "axis"), [(WIDE, 3), (TALL, 2)])
@pytest.mark.parametrize("loop", [False, True])
def test_a_prompt_per_view(shape, axis, loop):
    canvas = canvas_of(shape, 16, loop=loop, axis=axis)
    ends = [s + canvas.plan.view // 2 for s in canvas.plan.starts]
    own = [prompt(i) for i in range(len(ends))]
    # each span is a few columns around the middle of its view; the last ones lie across the wrap of a loop
    positive = sum((spanned(c, end - 2, end + 3) for c, end in zip(own, ends, strict=True)), [])
    together = check(canvas, positive, lambda i: (own[i], prompt(99)), batch=2)
    wrong = joint(tiny_models.toy(), canvas, own[0], prompt(99), batch=2)
    assert difference(together, wrong) > 0.05


def test_a_span_takes_the_views_that_are_centred_in_it():
    canvas = canvas_of(WIDE, 16, loop=True)  # views start at 0, 11, 22, 33; centres at 8, 19, 30, 41
    assert canvas.plan.starts == (0, 11, 22, 33)
    a, b, c = prompt(1), prompt(2), prompt(3)
    positive = spanned(a, 41, 52) + spanned(b, 8, 41) + within(c, 0, 0.5)  # a: 41 to 43 and 0 to 7
    takes = [b, b, b, a]
    check(canvas, positive, lambda i: (takes[i] + within(c, 0, 0.5), prompt(99)), steps=4)


def test_spans_do_not_wrap_without_a_loop():
    canvas = canvas_of(WIDE, 16)
    a, b = prompt(1), prompt(2)
    check(canvas, spanned(a, 30, 60) + b, lambda i: ((a if canvas.plan.starts[i] + 8 >= 30 else []) + b, prompt(99)))


def test_the_negative_may_have_spans_too():
    canvas = canvas_of(WIDE, 16)
    a, b = prompt(1), prompt(2)
    negative = spanned(a, 0, 20) + spanned(b, 20, 44)
    check(
        canvas,
        prompt(5),
        lambda i: (prompt(5), a if canvas.plan.starts[i] + 8 < 20 else b),
        negative=negative,
    )


def test_one_view_takes_only_the_prompt_of_its_span():
    canvas = canvas_of((1, 4, 12, 16), 16)
    check(canvas, spanned(prompt(1), 0, 10) + spanned(prompt(2), 10, 16), lambda i: (prompt(1), prompt(99)))


def test_a_view_without_any_prompt_is_refused():
    canvas = canvas_of(WIDE, 16)
    with pytest.raises(ValueError, match=r"SaFa Sampler: no prompt is for view 3 of 4 .*144 px to 272 px.*span"):
        joint(tiny_models.toy(), canvas, spanned(prompt(1), 0, 20) + spanned(prompt(2), 30, 44), prompt(99))


@pytest.mark.parametrize(("shape", "axis"), [(WIDE, 3), (TALL, 2)])
@pytest.mark.parametrize("loop", [False, True])
def test_overlapping_masks_with_strengths(shape, axis, loop):
    canvas = canvas_of(shape, 16, loop=loop, axis=axis)
    generator = torch.Generator().manual_seed(5)
    masks = torch.rand(2, 1, *shape[2:], generator=generator)
    masks[0][masks[0] < 0.3] = 0
    a, b, c = prompt(1), prompt(2), prompt(3)
    positive = masked(a, masks[0], 0.7) + masked(b, masks[1], 1.5) + c

    def view(i):
        left, right = (crop(m, canvas, i, axis - 1) for m in masks)
        return masked(a, left, 0.7) + masked(b, right, 1.5) + c, prompt(99)

    check(canvas, positive, view, batch=2)


def test_masks_of_another_size_are_stretched_over_the_canvas_not_over_each_view():
    canvas = canvas_of(WIDE, 16)
    small = torch.linspace(0, 1, 11).expand(1, 3, 11)
    a, b = prompt(1), prompt(2)
    stretched = torch.nn.functional.interpolate(small.unsqueeze(1), (12, 44), mode="bilinear").squeeze(1)
    positive = masked(a, small) + b
    check(canvas, positive, lambda i: (masked(a, crop(stretched, canvas, i, 2)) + b, prompt(99)))


def test_a_mask_per_picture_of_the_batch():
    canvas = canvas_of(WIDE, 16)
    masks = torch.rand(2, 12, 44, generator=torch.Generator().manual_seed(5))
    a, b = prompt(1), prompt(2)
    positive = masked(a, masks) + b
    check(canvas, positive, lambda i: (masked(a, crop(masks, canvas, i, 2)) + b, prompt(99)), batch=2)


@pytest.mark.parametrize(("shape", "axis"), [(WIDE, 3), (TALL, 2)])
def test_a_mask_with_its_bounds_as_area(shape, axis):
    canvas = canvas_of(shape, 16, axis=axis)
    mask = torch.zeros(1, 12, 44)
    mask[:, 2:11, 9:31] = torch.rand(1, 9, 22, generator=torch.Generator().manual_seed(5))
    mask = mask if axis == 3 else mask.mT.contiguous()
    a, b = prompt(1), prompt(2)
    bounded = masked(a, mask, 0.8, bounds=True)
    check(canvas, bounded + b, lambda i: (area_in_view(canvas, bounded, i) + b, prompt(99)))


@pytest.mark.parametrize(("shape", "axis"), [(WIDE, 3), (TALL, 2)])
@pytest.mark.parametrize("loop", [False, True])
def test_overlapping_areas(shape, axis, loop):
    canvas = canvas_of(shape, 16, loop=loop, axis=axis)
    a, b, c = prompt(1), prompt(2), prompt(3)
    first = area(canvas, a, (0, 12), (5, 20), 0.6)
    second = area(canvas, b, (3, 9), (18, 26), 1.3)  # to the canvas's end, where the host draws no soft edge
    check(
        canvas,
        first + second + c,
        lambda i: (area_in_view(canvas, first, i) + area_in_view(canvas, second, i) + c, prompt(99)),
    )


def test_areas_in_percent():
    canvas = canvas_of(WIDE, 16)
    a, b = prompt(1), prompt(2)
    (left,) = host_nodes.ConditioningSetAreaPercentage().append(a, 0.5, 0.8, 0.0, 0.2, 1.0)
    check(canvas, left + b, lambda i: (area_in_view(canvas, left, i) + b, prompt(99)))


def test_views_keep_no_soft_edge_of_their_own():
    """A region over the whole canvas is no region."""
    canvas = canvas_of(WIDE, 16)
    a, b = prompt(1), prompt(2)
    whole = area(canvas, a, (0, 12), (0, 44))
    check(canvas, whole + b, lambda i: (a + b, prompt(99)))


def test_an_area_outside_the_canvas_is_refused():
    canvas = canvas_of(WIDE, 16)
    with pytest.raises(ValueError, match=r"SaFa Sampler: a prompt's area begins at latent \[0, 50\].*\[12, 44\]"):
        joint(tiny_models.toy(), canvas, area(canvas, prompt(1), (0, 12), (50, 9)) + prompt(2), prompt(99))


def test_a_region_runs_only_on_the_views_it_reaches():
    canvas = canvas_of(WIDE, 16)
    mask = torch.zeros(1, 12, 44)
    mask[..., :20] = 1
    model = tiny_models.toy()
    with Forwards(model.model.diffusion_model) as calls:
        joint(model, canvas, masked(prompt(1), mask) + masked(prompt(2), 1 - mask), prompt(99), steps=1)
    windows = sum(len(args[0]) for args, _ in calls)
    # views 0-15, 9-24, 18-33, 28-43: the left region is in the first three, the right one in the last three
    assert windows == 3 + 3 + 4


def test_schedules_of_prompts():
    canvas = canvas_of(WIDE, 16)
    positive = within(prompt(1), 0, 0.4) + within(prompt(2), 0.4, 1)
    check(canvas, positive, lambda i: (positive, prompt(99)), steps=4)


@pytest.mark.parametrize("spans", [False, True])
def test_default_prompts_fill_what_is_left_at_each_step(spans):
    canvas = canvas_of(WIDE, 16)
    mask = torch.rand(1, 12, 44, generator=torch.Generator().manual_seed(5))
    a, b, c = prompt(1), prompt(2), prompt(3)
    scheduled = within(b, 0.3, 1)

    def combined(mask, regional=True):
        positive = masked(a, mask, 0.5) + masked(scheduled, 1 - mask, 0.9)
        if spans:
            positive = (spanned(positive, 0, 20) if mask.shape[2] == 44 else positive) if regional else []
        return PairConditioningSetDefaultAndCombine().set_default_and_combine(positive, prompt(99), c, prompt(98))

    def view(i):
        return combined(crop(mask, canvas, i, 2), canvas.plan.starts[i] + 8 < 20)

    positive, negative = combined(mask)
    check(canvas, positive, view, negative=negative, steps=4)


@pytest.mark.parametrize("kind", ["sd15", "sd3"])
def test_prompts_of_unequal_length(kind):
    shape = (1, 4, 8, 20) if kind == "sd15" else (1, 16, 8, 20)
    canvas = canvas_of(shape, 12)
    long, short = prompt(1, kind, tokens=154), prompt(2, kind, tokens=77)
    check(
        canvas,
        spanned(long, 0, 8) + spanned(short, 8, 20),
        lambda i: ((long, short)[i], prompt(99, kind)),
        negative=prompt(99, kind),
        model=getattr(tiny_models, kind)(),
    )


def test_a_lora_for_one_prompt_only():
    canvas = canvas_of((1, 4, 8, 20), 12)
    hooks = comfy.hooks.create_hook_lora(tiny_models.lora_sd15(), 1.0, 0.0)
    (frames,) = CreateHookKeyframe().create_hook_keyframe(0.0, 0.0)
    (frames,) = CreateHookKeyframe().create_hook_keyframe(1.5, 0.5, frames)
    scheduled = hooks.clone()
    scheduled.set_keyframes_on_hooks(frames)
    a = node_helpers.conditioning_set_values(prompt(1, "sd15"), {"hooks": hooks})
    b = node_helpers.conditioning_set_values(prompt(2, "sd15"), {"hooks": scheduled})
    positive = spanned(a, 0, 8) + spanned(b, 8, 20)
    together = check(
        canvas,
        positive,
        lambda i: ((a, b)[i], prompt(99, "sd15")),
        negative=prompt(99, "sd15"),
        model=tiny_models.sd15(),
    )
    plain = joint(
        tiny_models.sd15(), canvas, spanned(prompt(1, "sd15"), 0, 8) + spanned(prompt(2, "sd15"), 8, 20),
        prompt(99, "sd15"),
    )  # fmt: skip
    assert difference(together, plain) > 0.01


def test_the_reference_is_told_what_means_the_whole_canvas():
    canvas = canvas_of(WIDE, 16)
    mask = torch.rand(1, 12, 44, generator=torch.Generator().manual_seed(5))
    a, b, c = prompt(1), prompt(2), prompt(3)
    guide = Guide(0.5, 1, "rows")
    positive = masked(a, mask) + b + spanned(c, 0, 20)

    def view(i):
        if i == len(canvas.plan):
            return b, prompt(99)
        here = masked(a, crop(mask, canvas, i, 2)) + b
        return here + (c if canvas.plan.starts[i] + 8 < 20 else []), prompt(99)

    check(canvas, positive, view, guide=guide)


def test_the_reference_is_told_every_prompt_where_none_means_the_whole_canvas():
    canvas = canvas_of(WIDE, 16)
    a, b = prompt(1), prompt(2)
    views = [a if s + 8 < 20 else b for s in canvas.plan.starts] + [a + b]
    check(
        canvas,
        spanned(a, 0, 20) + spanned(b, 20, 44),
        lambda i: (views[i], prompt(99)),
        guide=Guide(0.5, 1, "rows"),
    )


def test_the_reference_has_a_prompt_of_its_own():
    canvas = canvas_of(WIDE, 16, loop=True)
    guide = Guide(0.5, 1, "frames", conditioning=prompt(7))
    views = [prompt(1)] * len(canvas.plan) + [prompt(7)]
    check(canvas, prompt(1), lambda i: (views[i], prompt(99)), guide=guide, batch=2)


def test_averaged_views_weigh_regions_within_each_view():
    """Regional masks are normalised inside a view; how views join does not change what a view predicts."""
    canvas = canvas_of((1, 4, 12, 16), 16)
    mask = torch.rand(1, 12, 16, generator=torch.Generator().manual_seed(5))
    positive = masked(prompt(1), mask) + masked(prompt(2), 1 - mask)
    patch = JointPatch(canvas, AverageJoin(), None, "SaFa Sampler")
    check(canvas, positive, lambda i: (positive, prompt(99)), patch=patch)


def test_conds_of_the_user_stay_as_they_were():
    canvas = canvas_of(WIDE, 16)
    mask = torch.rand(1, 12, 44)
    positive = spanned(masked(prompt(1), mask), 0, 44) + area(canvas, prompt(2), (0, 12), (5, 20))
    before = copy.deepcopy(positive)
    joint(tiny_models.toy(), canvas, positive, prompt(99), guide=Guide(0.5, 1, "rows", conditioning=prompt(7)))
    for (t, d), (t2, d2) in zip(positive, before, strict=True):
        assert torch.equal(t, t2) and d.keys() == d2.keys()


def test_each_prompt_has_a_name_that_stays():
    """Caches such as EasyCache's are kept under the host's uuid of a cond."""
    canvas = canvas_of(WIDE, 16)
    model = tiny_models.toy()
    names = []

    def note(apply, args):
        names.append(args["c"]["transformer_options"]["uuids"])
        return apply(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(note)
    patch = JointPatch(canvas, SwapJoin(), None, "SaFa Sampler")
    joint(model, canvas, prompt(1), prompt(99), patch=patch, steps=3)
    assert len(names) == 3 and names[0] == names[1] == names[2]
    assert len(set(names[0])) == 2
