"""Spectrum Report and Record Steps with the host's own samplers and VAEs."""

import math
import re
import sys
from types import SimpleNamespace

import matplotlib
import pytest
import torch

import comfy.ldm.audio.autoencoder
import comfy.nested_tensor
import comfy.sd

from safa_pack.nodes.audio.parts import Mel
from safa_pack.nodes.audio.vae import AudioVAE
from safa_pack.nodes.canvas import Canvas
from safa_pack.nodes.joint.sampler import SaFaSampler
from safa_pack.nodes.report.record_steps import SaFaRecordSteps
from safa_pack.nodes.report.spectrum_report import SaFaSpectrumReport, examine, figures, linear_map_r2
from safa_pack.safa_core import AverageJoin, SwapJoin, plan_views
from safa_pack.safa_core.fold import ViewFold
from safa_pack.safa_core.measures.linear_map import fit_linear_map
from safa_pack.safa_core.measures.spectrum import measure
from safa_pack.tests import tiny_audio, tiny_models
from safa_pack.tests.nodes import harness

pytestmark = pytest.mark.host
HALVED = 10 * math.log10(2)  # averaging two independent noises halves the power


@pytest.fixture(autouse=True)
def inference():
    """As the host runs its nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True)
def previews(tmp_path, monkeypatch):
    monkeypatch.setattr("folder_paths.get_temp_directory", lambda: str(tmp_path))


def noise(*shape, seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def canvas_of(shape=(4, 16, 196), axis=3, view=64, overlap=0.3, loop=False, unit="pixels"):
    """A Canvas on latents of `shape` without their batch."""
    return Canvas(plan_views(shape[axis - 1], view, overlap, loop), shape, axis, unit, 8)


def joined(canvas, join, batch=1):
    """Independent white noise of every view, joined."""
    shape = [batch, *canvas.shape]
    shape[canvas.axis] = len(canvas.plan) * canvas.plan.view
    return ViewFold(canvas.plan, join.weights(canvas.plan), len(shape), canvas.axis).scatter(noise(*shape))


def figures_of(latent, canvas, **inputs):
    """The node's figures without its plot, which takes longer than all of them."""
    return figures(canvas, examine(latent, canvas, **inputs))


def plot_of(latent, canvas, **inputs):
    return SaFaSpectrumReport.execute({"samples": latent}, canvas, **inputs).result[0]


def numbers(text, what):
    """The first number behind each occurrence of some words."""
    return [float(n) for n in re.findall(rf"{what} (-?[\d.]+|nan)", text)]


LATENTS = {
    "picture": ((16, 16, 196), 3, "pixels"),
    "tall picture": ((16, 196, 16), 2, "pixels"),
    "sound, time first": ((16, 196, 16), 2, "seconds"),
    "1-D sound": ((64, 196), 2, "seconds"),
    "video": ((8, 4, 16, 196), 4, "pixels"),
}


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("kind", LATENTS)
def test_averaged_noise_lacks_three_decibels_and_swapped_noise_nothing(kind, loop):
    shape, axis, unit = LATENTS[kind]
    canvas = canvas_of(shape, axis, loop=loop, unit=unit)
    averaged = figures_of(joined(canvas, AverageJoin(), 12), canvas)
    swapped = figures_of(joined(canvas, SwapJoin(), 12), canvas)
    assert numbers(averaged, "absolute") == pytest.approx([HALVED], abs=0.3)
    assert numbers(swapped, "absolute") == pytest.approx([0], abs=0.3)
    assert numbers(averaged, "seam score") == pytest.approx([1], abs=0.08)
    assert ("the loop's end" in averaged) == loop
    assert f"{len(canvas.plan.overlaps)} overlaps and {len(canvas.plan)} middles" in averaged


def test_a_batch_is_told_by_its_mean_and_range():
    canvas = canvas_of()
    latent = joined(canvas, AverageJoin(), 3)
    text = figures_of(latent, canvas)
    each = [numbers(figures_of(one[None], canvas), "absolute")[0] for one in latent]
    mean, low, high = re.search(r"absolute ([\d.-]+) dB \(([\d.-]+) to ([\d.-]+)\)", text).groups()
    assert float(mean) == pytest.approx(sum(each) / 3, abs=0.011)
    assert (float(low), float(high)) == pytest.approx((min(each), max(each)), abs=0.011)


def test_a_seam_is_named_with_its_place():
    canvas = canvas_of()
    latent = joined(canvas, SwapJoin())
    latent[..., 64:] += 6  # where the first view has ended
    text = figures_of(latent, canvas)
    assert "at latent column 64, 512 pixels" in text
    score, worst = numbers(text, "seam score")[0], numbers(text, "largest")[0]
    assert worst > 3 and 1.2 < score < worst


def test_latents_that_the_host_gave_a_time_dimension_are_measured_along_the_same_axis():
    canvas = canvas_of()
    latent = joined(canvas, AverageJoin())
    assert figures_of(latent.unsqueeze(2), canvas) == figures_of(latent, canvas)


def test_without_middles_a_reference_is_what_overlaps_are_compared_with():
    canvas = canvas_of((16, 16, 192), overlap=0.67, loop=True)
    latent = joined(canvas, AverageJoin())
    text = figures_of(latent, canvas)
    assert "no middles" in text and "connect a `reference`" in text and "deficit" not in text
    assert numbers(text, "seam score")
    assert plot_of(latent, canvas).shape == (1, 440, 1280, 3)
    text = figures_of(latent, canvas, reference=noise(8, 16, 16, 64))
    assert "no middles" in text and "connect" not in text
    # three views on a column, four in places
    assert numbers(text, "against the reference: relative")[0] == pytest.approx(0, abs=1)
    assert 10 * math.log10(3) - 0.4 < numbers(text, "absolute")[0] < 10 * math.log10(4) + 0.4


def test_overlaps_above_one_half_keep_the_ends_of_an_open_canvas():
    text = figures_of(noise(1, 4, 16, 112), canvas_of((4, 16, 112), overlap=0.75))
    assert "middles at the canvas's ends only" in text and numbers(text, "absolute")


@pytest.mark.parametrize(("overlap", "length", "said"), [(0.0, 128, "do not overlap"), (0.05, 124, "6 are needed")])
def test_overlaps_without_a_spectrum_still_have_a_seam_score(overlap, length, said):
    text = figures_of(noise(1, 4, 16, length), canvas_of((4, 16, length), overlap=overlap))
    assert said in text and "deficit" not in text
    assert numbers(text, "seam score") == pytest.approx([1], abs=0.3)


def test_the_plot_fits_the_preview_and_leaves_matplotlib_as_it_was():
    canvas, before = canvas_of(loop=True), dict(matplotlib.rcParams)
    shown = SaFaSpectrumReport.execute({"samples": joined(canvas, AverageJoin())}, canvas)
    plot, text = shown.result
    assert plot.shape == (1, 440, 1280, 3) and plot.dtype == torch.float32
    assert 0 <= plot.min() and plot.max() <= 1
    assert plot.flatten(0, 2).unique(dim=0).shape[0] > 50
    assert shown.ui["text"] == [text] and len(shown.ui["images"]) == 1
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert not matplotlib.pyplot.get_fignums()


# ---- R² of Eq. 5 ----


class LinearMelVAE:
    """What the audio loader's VAE offers, with a mel spectrogram that is linear in the latent but for some noise."""

    latent_channels, weights = 3, torch.tensor([0.5, -1.0, 2.0])

    def __init__(self, spread=0.0):
        self.spread = spread

    def latent_to_mel(self, latent):
        mel = torch.einsum("c,bctf->btf", self.weights, latent) + 0.7
        mel = mel + self.spread * noise(*mel.shape, seed=8)
        return mel.repeat_interleave(4, 1).repeat_interleave(4, 2)


@pytest.mark.parametrize("loop", [False, True])
def test_r2_of_a_known_linear_vae(loop):
    canvas = canvas_of((3, 196, 16), 2, unit="seconds", loop=loop)
    latent = noise(2, *canvas.shape)
    assert linear_map_r2(LinearMelVAE(), latent, canvas) == pytest.approx(1, abs=1e-6)
    signal = 0.25 + 1 + 4
    assert linear_map_r2(LinearMelVAE(2.0), latent, canvas) == pytest.approx(signal / (signal + 4), abs=0.02)
    assert "R² 1.000" in figures_of(latent, canvas, vae=LinearMelVAE())


def test_r2_of_a_mel_vae_is_that_of_the_packs_own_fit():
    vae = AudioVAE(SimpleNamespace(name="tiny AudioLDM", vae=tiny_audio.vae(5), vocoder=None, mel=Mel()))
    canvas = canvas_of((8, 44, 16), 2, view=16, overlap=0.2, unit="seconds")
    latent = noise(2, 8, 44, 16)
    views = torch.cat([latent[:1, :, start : start + 16] for start in canvas.plan.starts])
    assert len(views) == 4
    own = fit_linear_map(views, vae.latent_to_mel(views).float())
    assert linear_map_r2(vae, latent, canvas) == pytest.approx(own.r2, abs=1e-6)
    assert 0 < own.r2 < 1


def picture_vae():
    """The host's VAE between pixels and latents of the same size, a linear one."""
    return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})


@pytest.mark.parametrize("axis", [2, 3])
def test_r2_of_pictures_counts_all_colours(axis):
    canvas = canvas_of((3, 40, 40), axis, view=16)
    latent = noise(1, 3, 40, 40).clamp(-0.9, 0.9)
    before = latent.clone()
    assert linear_map_r2(picture_vae(), latent, canvas) == pytest.approx(1, abs=1e-6)
    assert torch.equal(latent, before)
    dark = latent * torch.tensor([1.0, 1.0, 0.0])[:, None, None]  # a colour that never moves explains nothing
    assert linear_map_r2(picture_vae(), dark, canvas) == pytest.approx(1, abs=1e-6)
    clipped = noise(1, 3, 40, 40) * 3
    assert 0.5 < linear_map_r2(picture_vae(), clipped, canvas) < 0.98


# ---- Bad input ----


def refused(words, latent, canvas, **inputs):
    with pytest.raises(ValueError, match=f"^Spectrum Report: .*{words}") as error:
        figures_of(latent, canvas, **inputs)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_what_cannot_be_measured_is_refused_in_one_sentence():
    canvas = canvas_of()
    latent = joined(canvas, SwapJoin())
    refused("single view", noise(1, 4, 16, 64), canvas_of((4, 16, 64)))
    refused("a canvas of 1568 px", latent[..., :100], canvas)
    refused("8 channels, but the plan is for a model with 4", latent.repeat(1, 2, 1, 1), canvas)
    refused("dimension", noise(1, 4, 196), canvas)
    refused("empty", latent[:0], canvas)
    for bad in (float("nan"), float("inf")):
        broken = latent.clone()
        broken[0, 0, 0, 0] = bad
        refused("latent holds NaN", broken, canvas)
        refused("reference holds NaN", latent, canvas, reference=broken)
    with pytest.raises(ValueError, match="one latent"):
        figures_of(comfy.nested_tensor.NestedTensor((latent, latent)), canvas)


@pytest.mark.parametrize("shape", [(1, 8, 16, 64), (1, 4, 12, 64), (1, 4, 16, 10), (1, 4, 64)])
def test_a_reference_of_another_kind_is_refused(shape):
    canvas = canvas_of()
    refused("expected a reference like", joined(canvas, SwapJoin()), canvas, reference=noise(*shape))


def test_a_vae_of_another_model_is_refused():
    canvas = canvas_of()
    refused("this VAE decodes 3", joined(canvas, SwapJoin()), canvas, vae=picture_vae())
    sound = comfy.sd.VAE(sd=comfy.ldm.audio.autoencoder.AudioOobleckVAE().state_dict())
    canvas = canvas_of((64, 196), 2, unit="seconds")
    refused("leave `vae` free", joined(canvas, SwapJoin()), canvas, vae=sound)


# ---- Record Steps ----

KEEPS = ["prediction", "latent"]


def recorded(model, canvas, every=1, keep="prediction"):
    """(MODEL, steps) of Record Steps."""
    harness.ALIVE.append(model)
    return SaFaRecordSteps.execute(model, canvas, every, keep).result


def long_canvas(**changes):
    return harness.canvas_of(**({"length": 50, "view": 20, "overlap": 0.3, "rows": 8} | changes))


@pytest.mark.parametrize("first", ["patch", "record"])
@pytest.mark.parametrize("keep", KEEPS)
def test_what_was_measured_is_the_canvas_of_each_step(keep, first):
    """With a guide, whose reference hangs on the state that samplers see; against a recorder of the tests' own."""
    canvas, seen = long_canvas(), harness.Recorder(tiny_models.toy())
    if first == "patch":
        model, steps = recorded(harness.patched(seen.model, canvas, guide=harness.guide_of()), canvas, keep=keep)
    else:
        model, steps = recorded(seen.model, canvas, keep=keep)
        model = harness.patched(model, canvas, guide=harness.guide_of())
    out = harness.ksampler(model, harness.empty(canvas, 2), steps=5)
    plain = harness.patched(tiny_models.toy(), canvas, guide=harness.guide_of())
    assert torch.equal(out, harness.ksampler(plain, harness.empty(canvas, 2), steps=5))
    assert [(s.number, s.total) for s in steps.steps] == [(k, 5) for k in range(1, 6)]
    finish = model.model.process_latent_out
    for step, (_, denoised, x, _) in zip(steps.steps, seen.steps, strict=True):
        state = finish((denoised if keep == "prediction" else x)[..., :50])
        expected = measure(state, canvas.plan, 3)
        assert torch.allclose(step.measured.overlap, expected.overlap)
        assert step.measured.seams.scores == pytest.approx(expected.seams.scores)
    text = figures_of(out, canvas, steps=steps)
    assert len(numbers(text, r"step \d+ of 5: deficit relative")) == 5
    if keep == "prediction":  # Euler's last step ends at what the model foresaw
        assert numbers(text, "absolute")[0] == pytest.approx(numbers(text, "absolute")[-1], abs=0.011)


def test_the_sampler_node_records_a_loop_every_so_often_and_at_the_end():
    canvas = long_canvas(length=56, loop=True)
    model, steps = recorded(tiny_models.toy(), canvas, every=4)
    prompts = harness.prompts()
    sampled = SaFaSampler.execute(
        model, canvas, prompts["positive"], prompts["negative"], harness.empty(canvas), 0, 7, 4.0, "heun", "simple", 1.0
    ).result[0]
    assert [s.number for s in steps.steps] == [1, 5, 7]
    plot, text = SaFaSpectrumReport.execute(sampled, canvas, steps=steps).result
    assert plot.shape == (1, 880, 1280, 3)
    assert len(numbers(text, "loop's end")) == 3


def test_steps_of_another_sampling_are_refused():
    canvas = long_canvas()
    model, steps = recorded(harness.patched(tiny_models.toy(), canvas), canvas)
    refused("no step was recorded", harness.picture(canvas)["samples"], canvas, steps=steps)
    earlier = harness.ksampler(model, harness.empty(canvas), seed=1)
    later = harness.ksampler(model, harness.empty(canvas), seed=2)
    figures_of(later.half(), canvas, steps=steps)
    refused("led to another latent", earlier, canvas, steps=steps)
    refused("led to another latent", later.repeat(2, 1, 1, 1), canvas, steps=steps)
    refused("another plan", later, long_canvas(loop=True), steps=steps)
    alone = recorded(tiny_models.toy(), canvas)[0]  # without SaFa Model Patch, which would refuse it before
    with pytest.raises(ValueError, match="^Record Steps: .*a canvas of 400 px"):
        harness.ksampler(alone, harness.empty(long_canvas(length=60)))


def test_a_sampling_that_broke_off_leaves_no_steps():
    canvas, calls = long_canvas(), []
    model, steps = recorded(harness.patched(tiny_models.toy(), canvas), canvas)
    out = harness.ksampler(model, harness.empty(canvas))

    def breaks(forward, args):
        calls.append(args)
        if len(calls) > 4:
            raise InterruptedError
        return forward(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(breaks)
    with pytest.raises(InterruptedError):
        harness.ksampler(model, harness.empty(canvas))
    refused("no step was recorded", out, canvas, steps=steps)


def test_steps_are_drawn_where_there_are_no_middles():
    canvas = long_canvas(length=60, overlap=0.67, loop=True)
    model, steps = recorded(harness.patched(tiny_models.toy(), canvas), canvas)
    out = harness.ksampler(model, harness.empty(canvas), steps=2)
    assert "step 2 of 2: seam score" in figures_of(out, canvas, steps=steps)
    assert plot_of(out, canvas, steps=steps).shape == (1, 880, 1280, 3)
