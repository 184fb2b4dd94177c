"""Conditioning that speaks of time, per view, against separate calls of the unpatched host for each window."""

import dataclasses

import pytest
import torch

import comfy.latent_formats
import comfy.ldm.ace.ace_step15
import comfy.model_base
import comfy.model_management
import comfy.supported_models_base
import node_helpers
from comfy_extras.nodes_ace import ReferenceAudio
from comfy_extras.nodes_audio import ConditioningStableAudio

from safa_pack.nodes.canvas import Guide
from safa_pack.nodes.joint.patch import JointPatch
from safa_pack.nodes.joint.view_encoding import NO_CODE, codes_in
from safa_pack.safa_core import SwapJoin
from safa_pack.tests import tiny_families, tiny_models
from safa_pack.tests.nodes.host_calls import Forwards, canvas_of, difference, joint, separate

pytestmark = pytest.mark.host

VIEW, LENGTH = 30, 100
STABLE, ACE10, ACE15 = 2048 / 44100, 4096 / 44100, 1 / 25
GUIDE = Guide(0.5, 1, "frames")


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


def prompt(seed, kind, **values):
    return tiny_models.conditioning(kind, seed, **values)


def sound_canvas(channels, scale, loop=False, length=LENGTH, rows=()):
    shape = (1, channels, *rows, length)
    return dataclasses.replace(canvas_of(shape, VIEW, loop=loop, unit="seconds"), scale=scale)


def seconds(positive, negative, start, total):
    return tuple(ConditioningStableAudio.execute(positive, negative, start, total).result)


def check(model, canvas, conds, given, guide=GUIDE, limit=1e-5, **options):
    """Joint sampling of `given` (positive, negative) against each window told conds(i); i = -1 is the reference."""
    together = joint(model, canvas, *given, guide=guide, **options)
    views = len(canvas.plan)
    apart = separate(model, canvas, lambda i: conds(-1 if i == views else i), guide=guide, **options)
    assert difference(together, apart) <= limit
    return together


@pytest.mark.parametrize("loop", [False, True])
def test_stable_audio_tells_every_view_its_own_window(loop):
    """Nothing said: seconds_start 0, seconds_total the window's, not the canvas's."""
    canvas = sound_canvas(64, STABLE, loop)
    given = prompt(1, "stable_audio"), prompt(2, "stable_audio")
    told = seconds(*given, 0, int(VIEW / 21.53))
    check(tiny_models.stable_audio(), canvas, lambda i: told, given)


def test_stable_audio_seconds_of_a_clip_are_told_to_every_view():
    canvas = sound_canvas(64, STABLE)
    given = seconds(prompt(1, "stable_audio"), prompt(2, "stable_audio"), 0.25, 1.2)
    check(tiny_models.stable_audio(), canvas, lambda i: given, given, batch=2)


@pytest.mark.parametrize("loop", [False, True])
def test_stable_audio_seconds_of_the_canvas_begin_later_in_later_views(loop):
    canvas = sound_canvas(64, STABLE, loop)
    plain = prompt(1, "stable_audio"), prompt(2, "stable_audio")
    given = seconds(*plain, 3, LENGTH * STABLE)

    def told(i):
        return seconds(*plain, 3 + canvas.plan.starts[max(i, 0)] * STABLE, LENGTH * STABLE)

    model = tiny_models.stable_audio()
    together = check(model, canvas, told, given, batch=2)
    # all views told the same is another result: the test can tell
    assert difference(together, separate(model, canvas, lambda i: given, guide=GUIDE, batch=2)) > 1e-3


def test_views_that_differ_in_seconds_still_run_together():
    canvas = sound_canvas(64, STABLE)
    model = tiny_models.stable_audio()
    given = seconds(prompt(1, "stable_audio"), prompt(2, "stable_audio"), 0, LENGTH * STABLE)
    with Forwards(model.model.diffusion_model) as calls:
        joint(model, canvas, *given, steps=1)
    assert [len(args[0]) for args, _ in calls] == [2 * len(canvas.plan)]


def test_a_reference_with_a_prompt_of_its_own_is_told_its_own_seconds():
    canvas = sound_canvas(64, STABLE)
    plain = prompt(1, "stable_audio"), prompt(2, "stable_audio")
    own, _ = seconds(prompt(5, "stable_audio"), plain[1], 1, 9)
    guide = dataclasses.replace(GUIDE, conditioning=own)
    given = seconds(*plain, 0, 1.2)
    check(
        tiny_models.stable_audio(),
        canvas,
        lambda i: (own, given[1]) if i == -1 else given,
        given,
        guide=guide,
    )


@pytest.mark.parametrize("loop", [False, True])
def test_ace_step_sings_its_lyrics_in_every_view(loop):
    canvas = sound_canvas(8, ACE10, loop, rows=(16,))
    given = prompt(1, "ace_step", lyrics_strength=0.7), prompt(2, "ace_step")
    check(tiny_models.ace_step(), canvas, lambda i: given, given)


def ace15_prompts():
    """Of unequal length, so that the host runs each by itself: a batch mixes up timbres (nodes/joint/timbre.py)."""
    return prompt(1, "ace_step15"), prompt(2, "ace_step15", tokens=60)


@pytest.mark.parametrize("loop", [False, True])
def test_ace_step_15_without_reference_audio_hears_silence_of_its_window(loop):
    canvas = sound_canvas(64, ACE15, loop)
    given = ace15_prompts()
    check(tiny_models.ace_step15(), canvas, lambda i: given, given)


def test_ace_step_15_views_run_together_and_each_hears_its_own_timbre():
    """The network patched by the host, batch against single windows; the model behind the patch is left alone."""
    canvas = sound_canvas(64, ACE15)
    model, given = tiny_models.ace_step15(), (prompt(1, "ace_step15"), prompt(2, "ace_step15"))
    network = model.model.diffusion_model
    seen = (
        torch.randn(3, 64, VIEW),
        torch.ones(3),
        torch.randn(3, 7, 32),
        torch.randn(3, 9, 32),
        torch.randn(3, 64, VIEW),
    )

    def apart():
        single = [network(*(part[i : i + 1] for part in seen)) for i in range(3)]
        return difference(network(*seen), torch.cat(single))

    with Forwards(network) as calls:
        joint(model, canvas, *given, steps=1)
    assert [len(args[0]) for args, _ in calls] == [2 * len(canvas.plan)]
    patched = JointPatch(canvas, SwapJoin(), None, "SaFa Sampler").install(model)
    patched.patch_model()
    assert apart() < 1e-5
    patched.unpatch_model()
    assert apart() > 0.01


def heard(cond, latent):
    (out,) = ReferenceAudio.execute(cond, {"samples": latent}).result
    return out


def sound(columns, seed=8):
    return torch.randn(1, 64, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("columns", [12, VIEW])
def test_ace_step_15_reference_audio_of_a_clip_is_heard_by_every_view(columns):
    canvas = sound_canvas(64, ACE15)
    given = tuple(heard(c, sound(columns)) for c in ace15_prompts())
    check(tiny_models.ace_step15(), canvas, lambda i: given, given)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("columns", [65, LENGTH, 120])
def test_ace_step_15_reference_audio_of_the_canvas_is_cut_for_each_view(loop, columns):
    """Where it ends before the canvas does, the host's silence goes on."""
    canvas = sound_canvas(64, ACE15, loop)
    silence = comfy.ldm.ace.ace_step15.get_silence_latent(LENGTH, "cpu")
    whole = torch.cat([sound(columns)[..., :LENGTH], silence[..., columns:]], -1)

    def told(i):
        return tuple(heard(c, whole.index_select(2, canvas.plan.indices(max(i, 0)))) for c in ace15_prompts())

    model = tiny_models.ace_step15()
    given = tuple(heard(c, sound(columns)) for c in ace15_prompts())
    together = check(model, canvas, told, given)
    same = tuple(heard(c, whole[..., :VIEW]) for c in ace15_prompts())
    assert difference(together, separate(model, canvas, lambda i: same, guide=GUIDE)) > 1e-3


def coded(cond, codes):
    return node_helpers.conditioning_set_values(cond, {"audio_codes": [codes]})


def codes_of(count, seed=9):
    return torch.randint(0, 64000, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("count", [12, 20, 30])
def test_ace_step_15_audio_codes_of_the_canvas_are_cut_for_each_view(count, loop):
    """What the host makes of codes that end before the canvas goes on behind them."""
    canvas = sound_canvas(64, ACE15, loop)
    plain, codes = ace15_prompts(), codes_of(count)

    def told(i):
        columns = canvas.plan.indices(max(i, 0)).tolist()
        own = [columns[k + 2] // 5 for k in range(0, VIEW, 5)]
        return coded(plain[0], [codes[j] if j < count else NO_CODE for j in own]), plain[1]

    model, given = tiny_models.ace_step15(), (coded(plain[0], codes), plain[1])
    together = check(model, canvas, told, given)
    assert difference(together, separate(model, canvas, lambda i: given, guide=GUIDE)) > 1e-3


def test_ace_step_15_audio_codes_of_a_clip_are_told_to_every_view():
    canvas = sound_canvas(64, ACE15)
    positive, negative = ace15_prompts()
    given = coded(positive, codes_of(6)), negative
    check(tiny_models.ace_step15(), canvas, lambda i: given, given)


def test_codes_are_exact_at_multiples_of_five_columns_and_the_nearest_elsewhere():
    codes = torch.arange(100, 120).unsqueeze(0)
    assert codes_in(codes, torch.arange(35, 65)).tolist() == [[107, 108, 109, 110, 111, 112]]
    for start in range(70):
        found = codes_in(codes, torch.arange(start, start + 30))
        begins = 5 * (found[0, 0].item() - 100)
        assert found.shape == (1, 6) and abs(begins - start) <= 2
    around = torch.arange(85, 115) % 100
    assert codes_in(codes, around).tolist() == [[117, 118, 119, 100, 101, 102]]
    assert codes_in(codes, torch.arange(90, 113)).tolist() == [[118, 119, NO_CODE, NO_CODE, NO_CODE]]


# ---- Stable Audio 3, and models whose text is the sound's own course ----


def test_stable_audio_3_tells_every_view_its_own_length():
    """It knows no seconds_start, and nothing longer than 384 s: the canvas's length would be wrong in every view."""
    canvas = sound_canvas(256, 4096 / 44100)
    plain = tuple(tiny_families.prompt(seed, width=768) for seed in (1, 2))
    given, told = (seconds(*plain, 0, columns * canvas.scale) for columns in (LENGTH, VIEW))
    model = tiny_families.reading("StableAudio3")
    together = check(model, canvas, lambda i: told, given, batch=2)
    assert difference(together, separate(model, canvas, lambda i: given, guide=GUIDE, batch=2)) > 1e-4


class FollowingNetwork(torch.nn.Module):
    """x, and a text of 25 frames a second, stretched over it."""

    dtype = torch.float32

    def forward(self, x, t, context=None, **kwargs):
        course = torch.nn.functional.interpolate(context.mean(2).unsqueeze(1), x.shape[-1], mode="nearest-exact")
        return 0.8 * x + 0.4 * torch.tanh(x.roll(1, -1) + course)


def following():
    """A model of sound that no row of the pack knows: its text is the sound's course."""
    latent_format = type("Course", (comfy.latent_formats.LatentFormat,), {"latent_dimensions": 1})()
    latent_format.latent_channels, latent_format.temporal_downscale_ratio = 8, 441  # four columns for each frame
    config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
    config.latent_format, config.memory_usage_factor, config.unet_extra_config = latent_format, 0.01, {}
    model = comfy.model_base.BaseModel(config, comfy.model_base.ModelType.FLOW)
    model.diffusion_model = FollowingNetwork()
    comfy.model_management.archive_model_dtypes(model.diffusion_model)
    return tiny_models.patcher(model)


@pytest.mark.parametrize(("frames", "loop"), [(20, False), (24, True)])
def test_a_text_that_is_the_sound_s_course_is_cut_for_every_view(frames, loop):
    canvas = canvas_of((1, 8, 4 * frames), 32, 0.25, loop=loop, unit="seconds")
    canvas = dataclasses.replace(canvas, scale=441 / 44100)
    assert len(canvas.plan) > 2 and all(start % 4 == 0 for start in canvas.plan.starts)
    given = tuple(tiny_families.prompt(seed, tokens=frames) for seed in (1, 2))

    def told(i):
        places = (canvas.plan.starts[max(i, 0)] // 4 + torch.arange(8)) % frames
        return tuple([[text[:, places], extra]] for ((text, extra),) in given)

    check(following(), canvas, told, given)


def test_a_text_of_another_length_is_no_course():
    canvas = dataclasses.replace(canvas_of((1, 8, 96), 32, 0.25, unit="seconds"), scale=441 / 44100)
    given = tuple(tiny_families.prompt(seed, tokens=77) for seed in (1, 2))
    check(following(), canvas, lambda i: given, given)


def test_a_song_that_cannot_be_cut_is_refused():
    canvas = dataclasses.replace(canvas_of((1, 8, 96), 32, 0.25, unit="seconds"), scale=441 / 44100)
    given = tuple(tiny_families.prompt(seed, tokens=30, yue2_chunks=((0, 24, 0, 30),)) for seed in (1, 2))
    with pytest.raises(ValueError, match="memory of a whole YuE2 song, .* set `view` of the Subview Planner"):
        joint(following(), canvas, *given)
