import re

import pytest
import torch

import comfy.sample
import comfy.samplers
import comfy.sd

import nodes as host_nodes
from safa_pack.nodes.audio.loader import load_audio_model
from safa_pack.nodes.canvas import Canvas, Guide
from safa_pack.nodes.joint.prompt_timeline import SaFaPromptTimeline, limit_to_views, weight_columns
from safa_pack.nodes.joint.regions import SPAN
from safa_pack.nodes.joint.timeline_picture import PROMPTS, timeline_picture
from safa_pack.safa_core import plan_views
from safa_pack.safa_core.timeline import Ruler, prompt_weights, read_timeline
from safa_pack.tests import tiny_audio, tiny_checkpoints, tiny_models
from safa_pack.tests.nodes.host_calls import CFG, SCHEDULER, SEED, Forwards, canvas_of, difference, joint, predict
from safa_pack.tests.nodes.literal import literal_algorithm_1

pytestmark = pytest.mark.host


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(autouse=True)
def previews(tmp_path, monkeypatch):
    monkeypatch.setattr("folder_paths.get_temp_directory", lambda: str(tmp_path))


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """MODEL and CLIP of the pack's own loader, of a tiny AudioLDM."""
    return load_audio_model(tiny_audio.audioldm(tmp_path_factory.mktemp("timeline") / "audioldm"))[:2]


def sound(loop=False, length=88, view=32):
    """A canvas of AudioLDM's latents, [B, 8, time, 16], half a second per column."""
    return Canvas(plan_views(length, view, 0.25, loop), (8, length, 16), 2, "seconds", 0.5)


def by_columns(model, canvas, prompts, negative, weights, steps=2):
    """Algorithm 1 with Euler steps, in which each view's prediction is a sum over prompts, column by column.

    weights: rows of numbers per canvas column. Every view is predicted whole for every prompt by the host alone.
    """
    sampling, plan, axis = model.get_model_object("model_sampling"), canvas.plan, canvas.axis
    sigmas = comfy.samplers.calculate_sigmas(sampling, SCHEDULER, steps)
    noise = comfy.sample.prepare_noise(torch.zeros(1, *canvas.shape), SEED)
    start = sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), True)

    def step(window, k, i):
        x, denoised = window.movedim(-1, axis), 0
        columns = [(plan.starts[i] + p) % plan.length for p in range(plan.view)]
        for prompt, row in zip(prompts, weights, strict=True):
            own = predict(model, x, sigmas[k], sigmas, prompt, negative).movedim(axis, -1)
            denoised = denoised + own * torch.tensor([row[c] for c in columns])
        d = (window - denoised) / sigmas[k]
        return window + d * (sigmas[k + 1] - sigmas[k])

    canvas_last = start.movedim(axis, -1)
    out, _ = literal_algorithm_1(step, canvas_last, None, plan.starts, plan.view, steps, plan.loop, 1)
    return model.model.process_latent_out(out.movedim(-1, axis))


def ramp(length, border, fade):
    """1 before the border, 0 behind, linear over `fade` columns around it: at the middle of each column."""
    return [min(1.0, max(0.0, 0.5 - (c + 0.5 - border) / fade)) for c in range(length)]


CANVASES = {
    "wide": ("toy", (1, 4, 12, 44), 3),
    "tall": ("toy", (1, 4, 44, 12), 2),
    "sound": ("stable_audio", (1, 64, 44), 2),
    "video": ("wan21", (1, 16, 1, 8, 44), 4),
}


@pytest.mark.parametrize("name", CANVASES)
def test_a_prompt_holds_in_its_columns_and_fades_into_the_next(name):
    kind, shape, axis = CANVASES[name]
    canvas, model = canvas_of(shape, 16, axis=axis), getattr(tiny_models, kind)()
    a, b, negative = (tiny_models.conditioning(kind, seed) for seed in (1, 2, 99))
    lines = read_timeline("0-160: a\n160-352: b", Ruler(canvas.plan, "pixels", 8))
    _, weights = prompt_weights(lines, Ruler(canvas.plan, "pixels", 8), 8)
    together = joint(
        model, canvas, weight_columns(a, weights[0], canvas) + weight_columns(b, weights[1], canvas), negative
    )
    first = ramp(44, 20, 8)
    expected = by_columns(model, canvas, [a, b], negative, [first, [1 - w for w in first]])
    assert difference(together, expected) <= 2e-5
    assert difference(joint(model, canvas, a, negative), expected) > 0.01


@pytest.mark.parametrize("loop", [False, True])
def test_the_node_makes_the_sound_that_its_lines_describe(audio, loop):
    model, clip = audio
    canvas = sound(loop)
    text = "40-10: rain\ndefault: a dog barks" if loop else "0-16.5s: rain\na dog barks"
    positive, picture, info = SaFaPromptTimeline.execute(clip, text, canvas, cross_fade=0.25).result
    rain, dog, negative = (
        host_nodes.CLIPTextEncode().encode(clip, words)[0] for words in ("rain", "a dog barks", "low quality")
    )
    if loop:  # 44 s: columns 80 to 88 and 0 to 20; 8 columns of fade
        first = [max(ramp(88, 20, 8)[c] * (c < 50), 1 - ramp(88, 80, 8)[c] if c >= 50 else 0) for c in range(88)]
    else:
        first = ramp(88, 33, 8)
    with Forwards(model.model.diffusion_model) as calls:
        together = joint(model, canvas, positive, negative)
    expected = by_columns(model, canvas, [rain, dog], negative, [first, [1 - w for w in first]])
    assert difference(together, expected) <= 2e-5
    windows = sum(len(args[0]) for args, _ in calls) / 2 - len(canvas.plan)  # two steps, one negative per view
    assert info.startswith(f"2 prompts on 44 s, cross-fade 4 s, {int(windows)} model windows per step for ")
    assert picture.shape[0] == 1 and picture.shape[2:] == (1024, 3)


def test_one_prompt_is_the_same_as_the_hosts_node(audio):
    clip, canvas = audio[1], sound()
    for text in (
        "rain, far thunder",
        "default: rain, far thunder",
        "0-44: rain, far thunder",
        "1v-: rain, far thunder",
    ):
        for blend in ("columns", "views"):
            positive, _, info = SaFaPromptTimeline.execute(clip, text, canvas, 0.1, blend).result
            [[cond, values]] = host_nodes.CLIPTextEncode().encode(clip, "rain, far thunder")[0]
            [[own, told]] = positive
            assert torch.equal(own, cond) and told.keys() == values.keys()
            assert info == "1 prompt on 44 s, 4 model windows per step for 4 views (without CFG and reference)"


def test_a_clip_of_the_host_encodes_as_its_own_node_does(tmp_path):
    path = tmp_path / "clip_l.safetensors"
    tiny_checkpoints.clip_l(path)
    clip = comfy.sd.load_clip([str(path)])
    canvas = canvas_of((1, 4, 12, 44), 16)
    positive = SaFaPromptTimeline.execute(clip, "0-176: sky, (clouds:1.3)\nsea", canvas).result[0]
    for [cond, values], words in zip(positive, ("sky, (clouds:1.3)", "sea"), strict=True):
        [[expected, known]] = host_nodes.CLIPTextEncode().encode(clip, words)[0]
        assert torch.equal(cond, expected) and torch.equal(values["pooled_output"], known["pooled_output"])
        assert values["mask"].shape == (1, 12, 44)
    assert torch.equal(positive[0][1]["mask"] + positive[1][1]["mask"], torch.ones(1, 12, 44))


def test_the_same_words_on_two_lines_run_once(audio):
    positive, _, info = SaFaPromptTimeline.execute(audio[1], "0-5: rain\n5-20: wind\n20-44: rain", sound()).result
    assert len(positive) == 2 and info.startswith("2 prompts")


def test_by_views_each_view_runs_once_with_its_own_prompt():
    canvas, model = canvas_of((1, 4, 12, 44), 16, loop=True), tiny_models.toy()  # views at 0, 11, 22 and 33
    a, b, negative = (tiny_models.conditioning("toy", seed) for seed in (1, 2, 99))
    takes = torch.tensor([True, False, False, True])
    positive = limit_to_views(a, takes, canvas.plan) + limit_to_views(b, ~takes, canvas.plan)
    assert [entry[1][SPAN] for entry in positive] == [(8, 9), (41, 42), (19, 31)]
    with Forwards(model.model.diffusion_model) as calls:
        together = joint(model, canvas, positive, negative, steps=1)
    assert sum(len(args[0]) for args, _ in calls) == 2 * 4
    noise = comfy.sample.prepare_noise(torch.zeros(1, *canvas.shape), SEED)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), SCHEDULER, 1)
    start = model.get_model_object("model_sampling").noise_scaling(sigmas[0], noise, torch.zeros_like(noise), True)
    expected, _ = literal_algorithm_1(
        lambda x, k, i: predict(model, x, sigmas[0], sigmas, a if takes[i] else b, negative, CFG),
        start, None, canvas.plan.starts, 16, 1, True, 1,
    )  # fmt: skip
    assert difference(together, model.model.process_latent_out(expected)) <= 1e-5


def test_by_views_a_view_takes_the_prompt_that_fills_most_of_it(audio):
    text = "0-16: rain\n16-44: wind"  # columns 0-32 of views 0-32, 18-50, 37-69, 56-88
    canvas = sound()
    positive, _, info = SaFaPromptTimeline.execute(audio[1], text, canvas, blend="views").result
    assert canvas.plan.starts == (0, 18, 37, 56)
    assert [entry[1][SPAN] for entry in positive] == [(16, 17), (34, 73)]
    assert "2 prompts on 44 s, one for each view, 4 model windows per step for 4 views" in info
    with pytest.raises(ValueError, match=r"Prompt Timeline: Line 2 \(20-21: dog\) weighs most on none of the 4 views"):
        SaFaPromptTimeline.execute(audio[1], "rain\n20-21: dog", canvas, blend="views")


def test_the_reference_hears_all_prompts():
    """Documented on the node's page; a prompt of its own comes from Reference Swap."""
    canvas, model = canvas_of((1, 4, 12, 44), 16), tiny_models.toy()
    a, b, c, negative = (tiny_models.conditioning("toy", seed) for seed in (1, 2, 3, 99))
    mask = torch.tensor([float(column < 20) for column in range(44)])
    positive = weight_columns(a, mask, canvas) + weight_columns(b, 1 - mask, canvas)
    with Forwards(model.model.diffusion_model) as calls:
        joint(model, canvas, positive, negative, steps=1, guide=Guide(1.0, 1, "rows"))
    # views 0-15, 9-24, 18-33 and 28-43: six windows, the reference's two, and five without a prompt
    assert sum(len(args[0]) for args, _ in calls) == 3 + 3 + 2 + 5
    with Forwards(model.model.diffusion_model) as calls:
        joint(model, canvas, positive, negative, steps=1, guide=Guide(1.0, 1, "rows", conditioning=c))
    assert sum(len(args[0]) for args, _ in calls) == 3 + 3 + 1 + 5


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"clip": None}, "Prompt Timeline: expected a CLIP, got none"),
        ({"timeline": ""}, "Prompt Timeline: Expected a timeline with at least one line"),
        ({"timeline": "0-8: rain\n8-60: bells"}, "Prompt Timeline: Line 2 (8-60: bells) lies outside the canvas"),
        ({"timeline": "0-8: rain"}, "Prompt Timeline: Expected prompts for the whole canvas, but no line covers 8 s"),
        ({"cross_fade": 1.5}, "Prompt Timeline: expected `cross_fade` from 0 to 1 (share of a view), got 1.5."),
        ({"cross_fade": float("nan")}, "Prompt Timeline: expected `cross_fade` from 0 to 1"),
    ],
)
def test_wrong_input_is_refused_before_a_prompt_is_encoded(audio, inputs, words):
    given = {"clip": audio[1], "timeline": "rain", "plan": sound()} | inputs
    with pytest.raises(ValueError, match=re.escape(words)):
        SaFaPromptTimeline.execute(**given)


def test_the_picture_shows_where_prompts_weigh():
    ruler = Ruler(plan_views(200, 80, 0.25), "seconds", 0.1)
    prompts, weights = prompt_weights(read_timeline("0-10: rain\n10-20: bells\n", ruler), ruler, 20)
    picture = (timeline_picture(prompts, weights, ruler, "two") * 255).round()[0]

    def height(colour, x):
        wanted = torch.tensor([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        return int((picture[:, x] == wanted).all(-1).sum())

    # margins of 24: 976 pixels for 20 s, the fade from 9 to 11 s; a lane is 40 pixels high
    assert [height(PROMPTS[0], 24 + x) for x in (430, 488, 540)] == [40, 19, 0]
    assert [height(PROMPTS[1], 24 + x) for x in (430, 488, 960)] == [0, 21, 40]


@pytest.mark.parametrize("length", [40, 20000])
def test_the_picture_holds_any_length_and_any_words(length):
    ruler = Ruler(plan_views(length, 40, 0.9), "pixels", 8)
    words = "雨 and a very long prompt " * 400
    picture = timeline_picture([words, "b"], torch.full((2, length), 0.5), ruler, words)
    assert picture.shape[0] == 1 and picture.shape[2:] == (1024, 3) and picture.shape[1] < 400
    assert float(picture.min()) >= 0 and float(picture.max()) <= 1
