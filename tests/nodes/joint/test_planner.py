import re

import pytest
import torch

import comfy.latent_formats
import comfy.nested_tensor
from comfy_extras.nodes_audio import EmptyLatentAudio
from comfy_extras.nodes_sd3 import EmptySD3LatentImage

import nodes as host_nodes
from safa_pack.nodes.canvas import Canvas, Guide
from safa_pack.nodes.joint.model_facts import ModelFacts
from safa_pack.nodes.joint.plan_picture import MARGIN, MIDDLE, OVERLAP, VIEWS, WIDTH, lanes_of, plan_picture
from safa_pack.nodes.joint.planner import Measure, SaFaSubviewPlanner, plan_canvas
from safa_pack.nodes.joint.sampler import SaFaModelPatch, SaFaSampler
from safa_pack.safa_core import ReferenceGuide, SwapJoin, ViewPlan, plan_views
from safa_pack.tests import tiny_families, tiny_models

pytestmark = pytest.mark.host

DEFAULTS = {
    i.id: i.default for i in SaFaSubviewPlanner.define_schema().inputs if getattr(i, "default", None) is not None
}
# unit, columns of the model's own view, shape of the empty latent with nothing typed (overlap 0.2)
FAMILIES = {
    "sd15": ("pixels", 64, [1, 4, 64, 319]),
    "sd20": ("pixels", 96, [1, 4, 96, 476]),
    "sdxl": ("pixels", 128, [1, 4, 128, 638]),
    "sd3": ("pixels", 128, [1, 16, 128, 638]),
    "flux_like": ("pixels", 128, [1, 16, 128, 638]),
    "wan21": ("pixels", 104, [1, 16, 1, 60, 519]),
    "stable_audio": ("seconds", 1024, [1, 64, 2662]),
    "ace_step": ("seconds", 2584, [1, 8, 16, 6718]),
    "ace_step15": ("seconds", 3000, [1, 64, 7800]),
}


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(autouse=True)
def previews(tmp_path, monkeypatch):
    monkeypatch.setattr("folder_paths.get_temp_directory", lambda: str(tmp_path))


def plan(model, **inputs):
    """(canvas, latent, picture, info) with the node's defaults for what is not given."""
    return SaFaSubviewPlanner.execute(model, **(DEFAULTS | inputs)).result


@pytest.mark.parametrize("kind", FAMILIES)
def test_nothing_typed(kind, monkeypatch):
    model = tiny_models.MODELS[kind]()
    if kind == "sd20":  # a checkpoint of the v model is told by its weights
        monkeypatch.setattr(model.model, "model_type", type(model.model.model_type).V_PREDICTION)
    unit, view, shape = FAMILIES[kind]
    canvas, latent, picture, info, *_ = plan(model)
    assert (canvas.unit, canvas.plan.view, list(latent["samples"].shape)) == (unit, view, shape)
    assert canvas.axis == len(shape) - 1 and list(canvas.shape) == shape[1:]
    assert len(canvas.plan) == (6 if unit == "pixels" else 3)
    assert not torch.any(latent["samples"]) and (latent.get("type") == "audio") == (unit == "seconds")
    assert "rounded" not in info


def test_sd2_for_512_pixels():
    assert plan(tiny_models.sd20("eps"))[0].plan.view == 64


@pytest.mark.parametrize("kind", FAMILIES)
def test_from_planner_to_sampler(kind):
    """The latent is one that the host's own sampling takes; pictures are made small, sound has nothing typed."""
    small = dict(length=176, view=64, height=64) if FAMILIES[kind][0] == "pixels" else dict(length=4, view=2)
    unit = FAMILIES[kind][0]
    canvas, latent, *_ = plan(tiny_models.MODELS[kind](), unit=unit, **small)
    conds = tiny_models.conditioning(kind, 1), tiny_models.conditioning(kind, 2)
    model = tiny_models.MODELS[kind]()
    out = SaFaSampler.execute(model, canvas, *conds, latent, 0, 1, 4.0, "euler", "simple", 1.0).result[0]
    assert out["samples"].shape == latent["samples"].shape
    plain = host_nodes.KSampler().sample(model, 0, 1, 1.0, "euler", "simple", *conds, latent)[0]
    assert plain["samples"].shape == latent["samples"].shape


@pytest.mark.parametrize("kind", ["toy", "stable_audio"])
def test_nothing_typed_is_sampled(kind):
    model = tiny_models.MODELS[kind]()
    canvas, latent, *_ = plan(model)
    conds = tiny_models.conditioning(kind, 1), tiny_models.conditioning(kind, 2)
    out = SaFaSampler.execute(model, canvas, *conds, latent, 0, 1, 4.0, "euler", "simple", 1.0).result[0]
    assert out["samples"].shape == latent["samples"].shape and torch.isfinite(out["samples"]).all()


@pytest.mark.parametrize("overlap", [0, 0.1, 0.2, 0.3, 0.33, 0.49, 0.5, 0.75])
@pytest.mark.parametrize("loop", [False, True])
def test_with_nothing_typed_there_are_six_views_at_any_overlap(overlap, loop):
    assert len(plan(tiny_models.toy(), overlap=overlap, loop=loop)[0].plan) == 6


def test_a_ring_is_never_shorter_than_a_view():
    canvas = plan(tiny_models.sd15(), overlap=0.95, loop=True)[0]
    assert canvas.plan.length == 64 and int(canvas.plan.coverage.min()) > 1


def test_the_papers_panorama_in_one_line():
    canvas, latent, _, info, *_ = plan(tiny_models.sd15(), length=3200, view=640)
    assert list(latent["samples"].shape) == [1, 4, 64, 400] and len(canvas.plan) == 6
    assert "\n" not in info
    assert re.match(r"6 views of 640 px \(80 latent columns\) on 3200 px \(400 latent columns\) x 512 px; ", info)
    assert "overlap 20.0%; " in info
    assert "6 model windows per step (7 with a Reference Swap; each twice with CFG)" in info
    assert info.endswith("MultiDiffusion at overlap 0.8 needs 21")


def test_uneven_overlaps_are_told():
    assert "overlap 26.6% to 28.1%" in plan(tiny_models.sd15(), length=4096, loop=True)[3]


def test_what_is_rounded_is_told():
    canvas, latent, _, info, *_ = plan(tiny_models.sd15(), length=1003, view=515, height=257, batch_size=2)
    assert list(latent["samples"].shape) == [2, 4, 32, 125] and canvas.plan.view == 64
    for text in ("length 1003 rounded to 1000", "view 515 rounded to 512", "height 257 rounded to 256"):
        assert f"{text} pixels" in info
    assert (
        "length 24 rounded to 24.0094 seconds"
        in plan(tiny_models.stable_audio(), length=24, unit="seconds", view=10)[3]
    )


def test_latent_columns_as_unit():
    canvas, latent, _, info, *_ = plan(tiny_models.sd15(), length=100, view=40, height=24, unit="latent")
    assert list(latent["samples"].shape) == [1, 4, 24, 100] and canvas.plan.view == 40 and canvas.unit == "pixels"
    assert plan(tiny_models.stable_audio(), length=100, view=40, unit="latent")[0].plan.view == 40


def test_length_is_the_width_even_where_the_height_is_more():
    canvas, latent, *_ = plan(tiny_models.sd15(), length=768, height=1024)
    assert list(latent["samples"].shape) == [1, 4, 128, 96] and (canvas.axis, canvas.plan.length) == (3, 96)


@pytest.mark.parametrize(
    ("kind", "shape", "axis", "length"),
    [
        ("sd15", (2, 4, 64, 200), 3, 200),
        ("sd15", (1, 4, 200, 64), 2, 200),
        ("sd15", (1, 4, 64, 64), 3, 64),
        ("wan21", (1, 16, 3, 300, 64), 3, 300),
        ("wan21", (1, 16, 300, 64), 3, 300),
        ("ace_step", (1, 8, 16, 3000), 3, 3000),
        ("stable_audio", (2, 64, 3000), 2, 3000),
    ],
)
def test_a_connected_latent_gives_the_geometry(kind, shape, axis, length):
    given = {"samples": torch.ones(shape), "noise_mask": torch.ones(1)}
    canvas, latent, _, info, *_ = plan(tiny_models.MODELS[kind](), latent=given)
    assert latent["noise_mask"] is given["noise_mask"] and torch.equal(
        latent["samples"].flatten(), torch.ones(shape).flatten()
    )
    shape = tuple(latent["samples"].shape)  # a picture for a video model has got a time
    assert (canvas.axis, canvas.plan.length, canvas.shape) == (axis, length, shape[1:])
    if kind == "sd15":
        assert f"on {length * 8} px" in info and "x 512 px" in info


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (dict(length=400, view=480), "the canvas is 400 px long, but one view is 480 px; .*one view.*smaller `view`"),
        (dict(view=-5.0), "`view` above 0 pixels, got -5"),
        (dict(view=float("nan")), "`view` above 0 pixels, got nan"),
        (dict(view=float("inf")), "`view` above 0 pixels, got inf"),
        (dict(length=-1.0), "`length` above 0 pixels, got -1"),
        (dict(length=float("nan")), "`length` above 0 pixels, got nan"),
        (dict(length=float("inf")), "`length` above 0 pixels, got inf"),
        (dict(height=-8), "`height` above 0 pixels, got -8"),
        (dict(overlap=1.0), "`overlap` from 0 to below 1, got 1"),
        (dict(overlap=-0.1), "`overlap` from 0 to below 1, got -0.1"),
        (dict(overlap=float("nan")), "`overlap` from 0 to below 1, got nan"),
        (dict(unit="seconds", length=5.0), "SD15 counts in pixels, but `unit` is seconds; choose auto or latent"),
        (dict(latent=(1, 16, 64, 200)), r"SD15 samples latents of 4 channels.*is \[1, 16, 64, 200\], made for another"),
        (dict(latent=(1, 4, 200)), r"2 more dimensions, but `latent` is \[1, 4, 200\].*VAE Encode"),
        (dict(latent=(1, 4, 1, 64, 200)), r"is \[1, 4, 1, 64, 200\]"),
        (dict(latent=(1, 4, 40, 50), view=408), "the canvas is 400 px"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(inputs, words):
    if "latent" in inputs:
        inputs |= {"latent": {"samples": torch.ones(inputs["latent"])}}  # no empty one, which would be fitted
    with pytest.raises(ValueError, match=words) as refusal:
        plan(tiny_models.sd15(), **inputs)
    message = str(refusal.value)
    assert message.startswith("Subview Planner: ") and message.endswith(".") and "\n" not in message


def test_sound_has_no_height_and_no_pixels():
    with pytest.raises(ValueError, match="StableAudio makes sound, which has no height; set `height` to 0, not 64"):
        plan(tiny_models.stable_audio(), height=64, unit="seconds")
    with pytest.raises(ValueError, match="StableAudio counts in seconds, but `unit` is pixels; choose auto"):
        plan(tiny_models.stable_audio(), length=24, unit="pixels")


def test_a_pack_of_latents_is_refused():
    nested = comfy.nested_tensor.NestedTensor([torch.zeros(1, 4, 8, 80), torch.zeros(1, 8, 20)])
    with pytest.raises(ValueError, match="Subview Planner: expected one latent, got a pack of several"):
        plan(tiny_models.sd15(), latent={"samples": nested})


def test_a_model_of_shapes_is_refused():
    model = tiny_models.sd15()
    model.add_object_patch("latent_format", comfy.latent_formats.Hunyuan3Dv2())
    with pytest.raises(ValueError, match="Subview Planner: .* makes neither pictures nor sound"):
        plan(model)


# ---- Sizes that a person or another node gives ----


@pytest.mark.parametrize(
    ("kind", "typed", "view"), [("sd15", dict(length=400), 50), ("ace_step15", dict(length=90), 2250)]
)
def test_a_canvas_that_the_model_makes_whole_is_one_view(kind, typed, view):
    canvas, _, _, info, *_ = plan(tiny_models.MODELS[kind](), **typed)
    assert canvas.plan == plan_views(view, view) and info.startswith("1 view of ")


def test_a_short_ring_is_two_views_of_all_of_it():
    canvas = plan(tiny_models.ace_step15(), length=60, loop=True)[0]
    assert canvas.plan == plan_views(1500, 1500, loop=True) and canvas.plan.starts == (0, 750)


@pytest.mark.parametrize(("kind", "unit"), [("sd15", "pixels"), ("stable_audio", "seconds")])
def test_unit_auto_is_the_model_s_own(kind, unit):
    model = tiny_models.MODELS[kind]()
    assert plan(model, length=1000, view=40, unit="auto")[3] == plan(model, length=1000, view=40, unit=unit)[3]


# the host's own empty latents that its templates feed to models of another format
EMPTY = {
    "sd3": (lambda: host_nodes.EmptyLatentImage().generate(1600, 512, 2)[0], [2, 16, 64, 200]),
    "wan21": (lambda: host_nodes.EmptyLatentImage().generate(1600, 512, 1)[0], [1, 16, 1, 64, 200]),
    "flux_like": (lambda: EmptySD3LatentImage.execute(1600, 512, 1).result[0], [1, 16, 64, 200]),
    "stable_audio": (lambda: EmptyLatentAudio.execute(100, 1).result[0], [1, 64, 2154]),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_the_host_s_own_empty_latents_are_taken(kind):
    make, shape = EMPTY[kind]
    canvas, latent, *_ = plan(tiny_models.MODELS[kind](), latent=make())
    assert list(latent["samples"].shape) == shape and canvas.plan.length == shape[-1]


def test_stable_audio_3_takes_the_only_empty_latent_there_is():
    """64 channels of 21.5 Hz, for a model of 256 channels of 10.8 Hz; then the sampler takes it too."""
    model = tiny_families.reading("StableAudio3")
    empty = EmptyLatentAudio.execute(30, 1).result[0]
    canvas, latent, *_ = plan(model, latent=empty, view=10)
    assert list(latent["samples"].shape) == [1, 256, 323] and len(canvas.plan) == 4
    conds = tuple(tiny_families.prompt(seed, width=768) for seed in (1, 2))
    of_sampler = SaFaSampler.execute(model, canvas, *conds, empty, 0, 1, 4.0, "euler", "simple", 1.0).result[0]
    patched = SaFaModelPatch.execute(model, canvas).result[0]
    of_patch = host_nodes.KSampler().sample(patched, 0, 1, 4.0, "euler", "simple", *conds, empty)[0]
    assert list(of_sampler["samples"].shape) == [1, 256, 323]
    assert torch.equal(of_sampler["samples"], of_patch["samples"])


def test_a_latent_that_is_not_empty_stays_as_it_is():
    with pytest.raises(ValueError, match=r"samples latents of 16 channels.*is \[1, 4, 64, 200\], made for another"):
        plan(tiny_models.sd3(), latent={"samples": torch.ones(1, 4, 64, 200), "downscale_ratio_spacial": 8})


@pytest.mark.parametrize(
    ("kind", "shape", "size"),
    [
        ("sd15", (1, 4, 40, 200), (512, 320)),
        ("sd15", (1, 4, 200, 40), (320, 512)),
        ("wan21", (1, 16, 1, 60, 300), (832, 480)),
    ],
)
def test_the_view_s_size_is_there_for_nodes_that_need_it(kind, shape, size):
    assert plan(tiny_models.MODELS[kind](), latent={"samples": torch.zeros(shape)})[4:] == size


def test_the_view_of_a_sound_has_no_width():
    for blocker in plan(tiny_models.stable_audio())[4:]:
        assert "makes sound, whose views have no width" in blocker.message


# ---- Pixel-space models ----


@pytest.mark.parametrize(("loop", "overlap"), [(False, 0.2), (True, 0.2), (True, 0.7)])
def test_views_of_a_pixel_space_model_begin_with_a_patch(loop, overlap):
    facts = ModelFacts("Pixels", 3, 2, "pixels", 1, 64, 64, patch=16)
    canvas = plan_canvas(facts, torch.Size([1, 3, 64, 1008]), 3, None, overlap, loop)
    assert all(start % 16 == 0 for start in canvas.plan.starts) and canvas.plan.length == 1008
    # the same as patches planned as columns
    small = plan_views(63, 4, overlap, loop)
    assert [start // 16 for start in canvas.plan.starts] == list(small.starts)


@pytest.mark.parametrize("axis", ["frames", "rows"])
def test_swaps_of_a_pixel_space_model_take_whole_patches(axis):
    small, patch = plan_views(28, 10, 0.2), 4
    plan_in_pixels = ViewPlan(tuple(start * patch for start in small.starts), 40, 112)
    canvas = Canvas(plan_in_pixels, (3, 32, 112), 3, "pixels", 1, patch, "Pixels")
    of_patches = SwapJoin(1, 1 if axis == "frames" else 0, axis)
    weights = canvas.fit(of_patches).weights(canvas.plan, 32)
    assert torch.equal(weights, of_patches.weights(small, 8).repeat_interleave(4, 1).repeat_interleave(4, 2))
    guided, _ = Guide(0.3, 1, axis).resolve(canvas).places(canvas.plan, 32)
    assert torch.equal(
        guided, ReferenceGuide(0.3, 1, axis).places(small, 8)[0].repeat_interleave(4, 0).repeat_interleave(4, 1)
    )


def test_a_canvas_that_cuts_a_patch_is_refused():
    facts = ModelFacts("Pixels", 3, 2, "pixels", 1, 64, 64, patch=16)
    with pytest.raises(ValueError, match="the canvas is 1000 px long, but Pixels sees patches of 16 px"):
        plan_canvas(facts, torch.Size([1, 3, 64, 1000]), 3, None, 0.2, False)
    notes = []
    assert Measure.of(facts, "pixels", notes).columns(1000, "length") == 992
    assert notes == ["length 1000 rounded to 992 pixels"]


# ---- Lengths that nobody can make ----


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (dict(length=1e6, view=1), "takes about .* views of 1.*, more than can be planned"),
        (dict(length=1e5, view=47, overlap=0.99), "more than can be planned; choose a smaller `length` or `overlap`"),
        (dict(length=1e5, batch_size=4096), "the latent alone would take .* GB of .* GB; choose a smaller `length`"),
    ],
)
def test_what_is_too_long_is_refused_before_it_is_planned(typed, words):
    with pytest.raises(ValueError, match=words):
        plan(tiny_models.stable_audio(), **typed)


def test_a_day_of_sound_is_planned_and_its_beginning_drawn():
    canvas, _, picture, *_ = plan(tiny_models.stable_audio(), length=86400, view=10)
    assert len(canvas.plan) > 10000 and picture.shape[1] < 1200
    last = shown(plan_views(10000, 10, 0.2), caption="caption; the first 576 views")
    assert last.shape[1] < 1200


# ---- The picture ----


def pixel(picture, x, y):
    return "#" + (picture[0, y, int(x)] * 255).round().byte().numpy().tobytes().hex()


def shown(views, caption="caption", scale=8.0):
    picture = plan_picture(views, scale, "pixels", caption)
    assert picture.shape[0] == 1 and picture.shape[2:] == (WIDTH, 3) and picture.dtype == torch.float32
    assert 0 <= float(picture.min()) and float(picture.max()) <= 1
    return picture


def runs(picture, colours):
    """Stretches of one of these colours in the first row of pixels that has the first: [(from, to, colour)]."""
    for y in range(picture.shape[1]):
        line = [pixel(picture, x, y) for x in range(WIDTH)]
        if colours[0] in line[MARGIN + 40 :] and any(c == colours[0] for c in line[MARGIN : MARGIN + 8]):
            break
    found, start = [], 0
    for x in range(1, WIDTH + 1):
        if x == WIDTH or line[x] != line[start]:
            if line[start] in colours:
                found.append((start, x, line[start]))
            start = x
    return found


def test_overlaps_are_where_they_are():
    views = plan_views(400, 80)
    bars = runs(shown(views), [MIDDLE, OVERLAP])
    scale = (WIDTH - 2 * MARGIN) / 400
    covered = views.coverage.tolist()
    assert len(bars) == 11 and bars[0][0] == MARGIN and abs(bars[-1][1] - (WIDTH - MARGIN)) <= 1
    for a, b, colour in bars:
        column = int(((a + b) / 2 - MARGIN) / scale)
        assert colour == (MIDDLE if covered[column] == 1 else OVERLAP)


@pytest.mark.parametrize(
    ("length", "overlap", "loop"), [(80, 0.2, False), (400, 0.2, False), (400, 0.84, False), (400, 0.2, True)]
)
def test_every_view_has_a_bar_of_its_own(length, overlap, loop):
    views = plan_views(length, 80, overlap, loop)
    picture = shown(views)
    lanes = lanes_of(views)
    bar = max(4, min(26, 260 // (max(lanes) + 1)))
    top = MARGIN + 20
    for i, (start, lane) in enumerate(zip(views.starts, lanes, strict=True)):
        x = MARGIN + (WIDTH - 2 * MARGIN) * start / length
        y = top + lane * (bar + 4) + 1
        assert pixel(picture, x + 2, y) == VIEWS[i % 2]


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("overlap", [0.2, 0.5, 0.95])
def test_views_in_a_lane_never_meet(overlap, loop):
    views = plan_views(113, 20, overlap, loop)
    lanes = lanes_of(views)
    for lane in set(lanes):
        columns = torch.cat([views.indices(i) for i in range(len(views)) if lanes[i] == lane])
        assert len(columns.unique()) == len(columns)


def test_an_hour_of_sound_is_broken_into_rows():
    views = plan_views(77520, 215)
    picture = shown(views)
    assert len(views) > 400 and 500 < picture.shape[1] < 1200
    # as many bars of the views' colours as there are views, and a piece more at each row's end
    wanted = torch.tensor([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in VIEWS])
    blue = (((picture[0] * 255).round()[:-60, :, None] == wanted).all(-1)).any(-1)  # [height, width]
    first = blue.any(1) & ~torch.cat([torch.zeros(1, dtype=torch.bool), blue.any(1)[:-1]])
    bars = int((blue[first][:, 1:] & ~blue[first][:, :-1]).sum())
    rows = -(-len(views) // 48)
    assert len(views) <= bars <= len(views) + 2 * rows


def test_a_long_caption_is_broken_not_cut():
    views = plan_views(400, 80)
    one, three = shown(views), shown(views, "a caption of many words " * 15)
    assert three.shape[1] > one.shape[1]
    assert float(three[0, : MARGIN + 60, -MARGIN:].std(dim=(0, 1)).max()) == 0  # nothing in the right margin
