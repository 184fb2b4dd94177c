"""ControlNet hints per view; tests/nodes/joint/mixes/test_controls.py has every kind of control."""

import copy

import pytest
import torch

import comfy.utils
import node_helpers

import nodes as host_nodes
from safa_pack.nodes.canvas import Guide
from safa_pack.nodes.joint.regions import SPAN
from safa_pack.tests import tiny_controls, tiny_families
from safa_pack.tests.nodes.host_calls import Forwards, canvas_of, difference, joint, separate

pytestmark = pytest.mark.host

WIDE, TALL = (1, 4, 8, 28), (1, 4, 28, 8)  # three views of 12


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


prompt = tiny_families.prompt


def ramp(canvas, scale=8):
    """An IMAGE [1, H, W, 3] at the canvas's size; its long axis goes from 0 to 1, green is noise."""
    height, width = (scale * d for d in canvas.shape[-2:])
    image = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(1))
    along = torch.linspace(0, 1, scale * canvas.plan.length)
    image[..., 0] = along if canvas.axis == 3 else along[:, None]
    return image


def piece(image, canvas, i, scale=8):
    """View i of an IMAGE at the canvas's size, pixel by pixel."""
    first = canvas.plan.starts[i] * scale
    pixels = [(first + p) % (canvas.plan.length * scale) for p in range(canvas.plan.view * scale)]
    return image[:, :, pixels] if canvas.axis == 3 else image[:, pixels]


def controlled(image, positive=None, negative=None, net=None, strength=0.8, start=0.0, end=1.0, **options):
    """The host's Apply ControlNet: (positive, negative)."""
    return host_nodes.ControlNetApplyAdvanced().apply_controlnet(
        prompt(1) if positive is None else positive,
        prompt(99) if negative is None else negative,
        net or tiny_controls.sd15(),
        image,
        strength,
        start,
        end,
        **options,
    )


def check(canvas, conds, views, model=None, limit=1e-5, **options):
    model = model or tiny_families.sd15()
    together = joint(model, canvas, *conds, **options)
    assert difference(together, separate(model, canvas, views, **options)) <= limit
    return together


@pytest.mark.parametrize(("shape", "axis", "loop"), [(WIDE, 3, True), (TALL, 2, False)])
def test_every_view_gets_its_own_piece_of_the_ramp(shape, axis, loop):
    canvas = canvas_of(shape, 12, loop=loop, axis=axis)
    image = ramp(canvas)
    net = tiny_controls.sd15()
    with Forwards(net.control_model) as calls:
        together = joint(tiny_families.sd15(), canvas, *controlled(image, net=net), steps=2, batch=2)
    hints = torch.cat([kwargs["hint"] for _, kwargs in calls])
    views = len(canvas.plan)
    assert len(hints) == 2 * 2 * 2 * views  # steps, prompts, pictures
    wanted = [piece(image, canvas, i).movedim(-1, 1)[0] for i in range(views)]
    seen = [sum(torch.equal(h, w) for h in hints) for w in wanted]
    assert seen == [2 * 2 * 2] * views
    views_alone = separate(tiny_families.sd15(), canvas, lambda i: controlled(piece(image, canvas, i)), batch=2)
    assert difference(together, views_alone) <= 1e-5
    assert difference(together, joint(tiny_families.sd15(), canvas, prompt(1), prompt(99), batch=2)) > 0.01


def test_views_still_run_together():
    """A control object of its own for each view would make the host run each view alone."""
    canvas = canvas_of(WIDE, 12)
    net, model = tiny_controls.sd15(), tiny_families.sd15()
    with Forwards(net.control_model) as hints, Forwards(model.model.diffusion_model) as windows:
        joint(model, canvas, *controlled(ramp(canvas), net=net), steps=3)
    assert [len(args[0]) for args, _ in windows] == [6] * 3
    assert len(hints) == 3


def test_smaller_batches_give_the_same_picture(monkeypatch):
    canvas = canvas_of(WIDE, 12)
    model, conds = tiny_families.sd15(), controlled(ramp(canvas))
    together = joint(model, canvas, *conds)
    fit = model.model.memory_required([4, 4, 8, 12]) * 1.5 + 1
    monkeypatch.setattr(type(model), "get_free_memory", lambda self, device: fit)
    with Forwards(model.model.diffusion_model) as windows:
        parts = joint(model, canvas, *conds)
    assert max(len(args[0]) for args, _ in windows) < 6
    assert difference(parts, together) <= 1e-5


@pytest.mark.parametrize("size", [(32, 112), (64, 64), (100, 700)])
def test_a_hint_of_another_size_is_fitted_to_the_canvas_as_the_host_fits_it(size):
    """Scaled and centre-cropped to the canvas, once; then cut."""
    canvas = canvas_of(WIDE, 12)
    image = torch.rand(1, *size, 3, generator=torch.Generator().manual_seed(1))
    fitted = comfy.utils.common_upscale(image.movedim(-1, 1), 28 * 8, 8 * 8, "nearest-exact", "center").movedim(1, -1)
    check(canvas, controlled(image), lambda i: controlled(piece(fitted, canvas, i)))


def test_a_hint_per_picture_of_the_batch():
    canvas = canvas_of(WIDE, 12, loop=True)
    images = torch.cat([ramp(canvas), 1 - ramp(canvas)])
    check(canvas, controlled(images), lambda i: controlled(piece(images, canvas, i)), batch=2)


def test_chained_controls_with_schedules_and_strengths():
    canvas = canvas_of(WIDE, 12, loop=True)
    image, other = ramp(canvas), torch.rand(1, 40, 140, 3, generator=torch.Generator().manual_seed(2))
    fitted = comfy.utils.common_upscale(other.movedim(-1, 1), 28 * 8, 8 * 8, "nearest-exact", "center").movedim(1, -1)

    def chain(first, second):
        once = controlled(first, strength=0.5, start=0.0, end=0.4)
        return controlled(second, *once, strength=1.2, start=0.3)

    check(canvas, chain(image, other), lambda i: chain(piece(image, canvas, i), piece(fitted, canvas, i)), steps=4)


def test_control_on_the_positive_alone():
    canvas = canvas_of(WIDE, 12)
    image = ramp(canvas)

    def one_sided(image):
        return controlled(image)[0], prompt(99)

    check(canvas, one_sided(image), lambda i: one_sided(piece(image, canvas, i)))


def test_the_old_apply_node_reaches_the_negative_too():
    canvas = canvas_of(WIDE, 12)

    def applied(image):
        net = tiny_controls.sd15()
        return host_nodes.ControlNetApply().apply_controlnet(prompt(1), net, image, 0.8)[0], prompt(99)

    image = ramp(canvas)
    check(canvas, applied(image), lambda i: applied(piece(image, canvas, i)))


def test_two_prompts_share_a_control():
    canvas = canvas_of(WIDE, 12)
    a, b = prompt(1), prompt(2)
    spans = [node_helpers.conditioning_set_values(a, {SPAN: (0, 10)}), b]
    image = ramp(canvas)
    conds = controlled(image, positive=spans[0] + spans[1])
    check(canvas, conds, lambda i: controlled(piece(image, canvas, i), positive=(a + b if i == 0 else b)))


def test_a_prompt_for_some_rows_gets_the_hint_of_these_rows():
    canvas = canvas_of(WIDE, 12)
    image = ramp(canvas)
    a = prompt(1)
    area = node_helpers.conditioning_set_values(a, {"area": (4, 28, 2, 0)})
    net = tiny_controls.sd15()
    with Forwards(net.control_model) as calls:
        joint(tiny_families.sd15(), canvas, controlled(image, area, net=net)[0] + prompt(2), prompt(99), steps=1)
    hints = torch.cat([kwargs["hint"] for _, kwargs in calls])
    rows = image[:, 16:48]
    assert all(any(torch.equal(h, piece(rows, canvas, i).movedim(-1, 1)[0]) for h in hints) for i in range(3))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("old_node", [False, True])
def test_the_reference_gets_no_hint_of_the_canvas_but_keeps_its_own(own, old_node):
    canvas = canvas_of(WIDE, 12, loop=True)
    image = ramp(canvas)
    small = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(2))

    def applied(image, seed=1):
        if old_node:
            net = tiny_controls.sd15()
            return host_nodes.ControlNetApply().apply_controlnet(prompt(seed), net, image, 0.8)[0], prompt(99)
        return controlled(image, prompt(seed))[0], prompt(99)

    guide = Guide(0.5, 1, "rows", conditioning=applied(small, 7)[0] if own else None)
    alone = applied(small, 7) if own else (prompt(1), prompt(99))
    views = [applied(piece(image, canvas, i)) for i in range(len(canvas.plan))] + [alone]
    check(canvas, applied(image), lambda i: views[i], guide=guide)


def test_only_the_reference_has_a_hint():
    """The host would give it to the canvas's negative."""
    canvas = canvas_of(WIDE, 12)
    small = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(2))
    (own,) = host_nodes.ControlNetApply().apply_controlnet(prompt(7), tiny_controls.sd15(), small, 0.8)
    views = [(prompt(1), prompt(99))] * len(canvas.plan) + [(own, prompt(99))]
    check(canvas, (prompt(1), prompt(99)), lambda i: views[i], guide=Guide(0.5, 1, "rows", conditioning=own))


def test_the_users_control_stays_as_it_was():
    canvas = canvas_of(WIDE, 12)
    conds = controlled(ramp(canvas), *controlled(1 - ramp(canvas)))
    control = conds[0][0][1]["control"]
    before = [copy.copy(vars(control)), copy.copy(vars(control.previous_controlnet))]
    hint = control.cond_hint_original.clone()
    joint(tiny_families.sd15(), canvas, *conds)
    assert torch.equal(control.cond_hint_original, hint)
    for now, then in zip([control, control.previous_controlnet], before, strict=True):
        assert {k: v for k, v in vars(now).items() if v is not then[k]} == {}
