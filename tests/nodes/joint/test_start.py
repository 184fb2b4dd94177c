"""What a sampling starts from: pictures, masks, an earlier stage, the reference's own latent; and what is refused."""

import dataclasses
import logging

import pytest
import torch

import comfy.nested_tensor
import comfy.sample
from comfy_extras import nodes_context_windows, nodes_custom_sampler, nodes_differential_diffusion

from safa_pack.nodes.joint.sampler import SaFaSampler
from safa_pack.safa_core import SwapJoin
from safa_pack.tests.nodes.harness import (
    SEED,
    Recorder,
    SeparateCalls,
    advanced,
    apart,
    canvas_of,
    cfg_guider,
    custom,
    empty,
    guide_of,
    ksampler,
    literal,
    own_noise,
    patched,
    picture,
    prompts,
    schedule,
    start_of,
)
from safa_pack.tests.nodes.literal import literal_algorithm_1
from safa_pack.tests.pairs import pairwise
from safa_pack.tests.tiny_models import sd3, toy

pytestmark = pytest.mark.host

CANVAS = canvas_of()


def largest(a, b):
    assert torch.isfinite(a).all() and a.shape == b.shape
    return float((a - b).abs().max())


# ---- A picture to start from ----


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("axis", ["rows", "frames"])
def test_denoise_below_1(flow, axis):
    model, latent, guide = toy(flow=flow), picture(CANVAS, 2), guide_of(0.4, 1, axis)
    out = ksampler(patched(model, CANVAS, guide=guide), latent, steps=6, denoise=0.5)
    sigmas = schedule(model, steps=12)[-7:]
    window = latent["samples"][..., :16]
    want, _ = literal(model, CANVAS, sigmas, guide, batch=2, latent=latent["samples"], reference_latent=window)
    assert largest(out, want) < 2e-6


@pytest.mark.parametrize("batch", [1, 2])
def test_the_reference_starts_from_the_users_latent(batch):
    latent, own = picture(CANVAS, 2), picture(canvas_of(16, 16), batch, seed=91)["samples"]
    guide = guide_of(0.4, latent={"samples": own})
    out = ksampler(patched(toy(), CANVAS, guide=guide), latent, steps=6, denoise=0.5)
    sigmas = schedule(toy(), steps=12)[-7:]
    want, _ = literal(toy(), CANVAS, sigmas, guide, batch=2, latent=latent["samples"], reference_latent=own)
    assert largest(out, want) < 2e-6
    assert largest(out, ksampler(patched(toy(), CANVAS, guide=guide_of(0.4)), latent, steps=6, denoise=0.5)) > 0.1


# ---- Masks ----


def mask_of(columns, value=0.0, batch=1):
    """A noise mask in pixels, 1 but for some latent columns."""
    mask = torch.ones(batch, 48, 352)
    mask[:, :, columns.start * 8 : columns.stop * 8] = value
    return mask


def literal_with_mask(model, sigmas, guide, latent, mask_at):
    """Algorithm 1 on the host's inpainting model: kept places are not guided. mask_at(k) [44]: the mask of step k."""
    plan, steps = CANVAS.plan, len(sigmas) - 1
    noise = comfy.sample.prepare_noise(latent, SEED)
    own = own_noise(noise[..., :16])
    sources = [(noise[..., plan.indices(i)], latent[..., plan.indices(i)]) for i in range(len(plan))]
    sources.append((own, latent[..., :16]))
    calls = SeparateCalls(model)
    canvas, reference = start_of(model, sigmas, noise, latent), start_of(model, sigmas, own, latent[..., :16])
    for k in range(steps):

        def step(window, _, i, k=k):
            m = mask_at(k)[plan.indices(i)] if i < len(plan) else torch.ones(16)
            view_noise, view_latent = sources[i]
            x = window * m
            x = x + model.model.model_sampling.noise_scaling(sigmas[k], view_noise, view_latent) * (1 - m)
            denoised = calls(x, sigmas[k]) * m + view_latent * (1 - m)
            return window + (window - denoised) / sigmas[k] * (sigmas[k + 1] - sigmas[k])

        geometry = (plan.starts, plan.view, 1, plan.loop, 1)
        free, following = literal_algorithm_1(step, canvas, reference, *geometry)
        if k < int(guide.rate * steps + 0.5):
            guided, _ = literal_algorithm_1(step, canvas, reference, *geometry, 1, guide.interval, guide.axis == "rows")
            free = torch.where(mask_at(0) >= 1, guided, free)
        canvas, reference = free, following
    return model.model.process_latent_out(canvas)


@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("flow", [False, True])
@torch.inference_mode()
def test_masks(flow, value):
    model, guide, latent = toy(flow=flow), guide_of(0.5), picture(CANVAS)
    columns = slice(14, 23)  # an overlap and half a middle
    sigmas = schedule(model)
    mask = torch.ones(44)
    mask[columns] = value
    out = ksampler(patched(model, CANVAS, guide=guide), latent | {"noise_mask": mask_of(columns, value)})
    assert largest(out, literal_with_mask(model, sigmas, guide, latent["samples"], lambda k: mask)) < 2e-5
    if value == 0:
        host = ksampler(model, latent | {"noise_mask": mask_of(columns)})
        assert torch.equal(out[..., columns], host[..., columns])
        assert largest(out[..., columns], latent["samples"][..., columns]) < 1e-5


@torch.inference_mode()
def test_differential_diffusion():
    model, guide, latent = toy(), guide_of(0.5), picture(CANVAS)
    ramp = torch.linspace(0, 1, 44)
    pixels = ramp.repeat_interleave(8).expand(1, 48, 352)
    differential = nodes_differential_diffusion.DifferentialDiffusion.execute(model).result[0]
    out = ksampler(patched(differential, CANVAS, guide=guide), latent | {"noise_mask": pixels})
    sampling, sigmas = model.get_model_object("model_sampling"), schedule(model)
    first, last = sampling.timestep(sigmas[0]), sampling.timestep(sampling.sigma_min)

    def threshold(k):
        return (sampling.timestep(sigmas[k]) - last) / (first - last)

    def mask_at(k):
        return (ramp >= threshold(k)).float()

    assert mask_at(0).sum() == 1 and mask_at(len(sigmas) - 2).sum() > 30
    assert largest(out, literal_with_mask(model, sigmas, guide, latent["samples"], mask_at)) < 2e-5


def test_a_mask_that_keeps_everything_changes_nothing():
    latent = picture(CANVAS) | {"noise_mask": torch.zeros(1, 48, 352)}
    out = ksampler(patched(toy(), CANVAS, guide=guide_of(1.0)), latent)
    assert largest(out, latent["samples"]) < 1e-5


# ---- Stages ----


def stages(model, cuts, scheduler="simple", steps=10, second=None, latent=None):
    """KSampler (Advanced) once per stage, in the usual way."""
    latent = latent or empty(CANVAS)
    for start, end in zip((0, *cuts), (*cuts, steps), strict=True):
        here = second if second is not None and start else model
        latent = advanced(here, latent, start, end, start == 0, end < steps, scheduler=scheduler, steps=steps)
    return latent["samples"]


@pytest.mark.parametrize(
    "cuts, flow", [((2,), False), ((3,), True), ((6,), False), ((1, 2, 7), False), ((1, 2, 7), True)]
)
def test_stages_are_one_run(cuts, flow):
    """The three guided steps before, across and after the boundaries."""
    model = patched(toy(flow=flow), CANVAS, guide=guide_of(0.3))
    assert largest(stages(model, cuts), stages(model, ())) < 1e-4
    assert largest(stages(model, ()), stages(patched(toy(flow=flow), CANVAS), ())) > 0.1


@pytest.mark.parametrize("scheduler", ["karras", "ddim_uniform", "linear_quadratic", "beta", "kl_optimal"])
@pytest.mark.parametrize("steps", [9, 10])
def test_stages_are_one_run_on_every_schedule(scheduler, steps):
    model = patched(toy(), CANVAS, guide=guide_of(0.5))
    whole = stages(model, (), scheduler, steps)
    assert largest(stages(model, (3,), scheduler, steps), whole) < 1e-4
    assert largest(stages(model, (7,), scheduler, steps), whole) < 1e-4


def test_stages_without_a_guide():
    model = patched(toy(), CANVAS)
    assert largest(stages(model, (4,)), stages(model, ())) < 1e-4


def test_stages_of_sd3():
    """Its latents change scale between the stages."""
    canvas, conds = canvas_of(20, 12, channels=16), prompts("sd3")
    model = patched(sd3(), canvas, guide=guide_of(0.7))
    first = advanced(model, empty(canvas), 0, 1, True, True, steps=3, **conds)
    second = advanced(model, first, 1, 3, False, False, steps=3, **conds)["samples"]
    assert largest(second, ksampler(model, empty(canvas), steps=3, **conds)) < 1e-4


def test_split_sigmas_in_custom_sampling():
    model, sigmas = patched(toy(), CANVAS, guide=guide_of(0.5)), schedule(toy(), "karras", 8)
    high, low = nodes_custom_sampler.SplitSigmas.execute(sigmas, 3).result
    first, _ = custom(cfg_guider(model), empty(CANVAS), sigmas=high)
    second, _ = custom(cfg_guider(model), {"samples": first}, sigmas=low, noise=False)
    assert largest(second, custom(cfg_guider(model), empty(CANVAS), sigmas=sigmas)[0]) < 1e-4


def test_a_stage_with_a_schedule_of_its_own_counts_by_noise():
    """Sigmas typed in by hand: no longer a piece of one schedule."""
    model, sigmas = patched(toy(), CANVAS, guide=guide_of(0.5)), schedule(toy(), "sgm_uniform", 8)
    first, _ = custom(cfg_guider(model), empty(CANVAS), sigmas=sigmas[:4].clone())
    second, _ = custom(cfg_guider(model), {"samples": first}, sigmas=sigmas[3:].clone(), noise=False)
    assert largest(second, custom(cfg_guider(model), empty(CANVAS), sigmas=sigmas)[0]) < 1e-4


def guided_calls(recorder):
    return [apart(out, CANVAS, guide_of()) == 0 for _, _, out in recorder.calls]


@torch.inference_mode()
def test_noise_added_by_another_node_is_a_whole_run():
    """Add Noise, then sampling without noise over the whole schedule: K of its own steps."""
    recorder, sigmas = Recorder(toy()), schedule(toy(), "karras", 10)
    model = patched(recorder.model, CANVAS, guide=guide_of(0.5))
    noise = nodes_custom_sampler.RandomNoise.execute(SEED).result[0]
    (noisy,) = nodes_custom_sampler.AddNoise.execute(model, noise, sigmas, picture(CANVAS)).result
    custom(cfg_guider(model), noisy, sigmas=sigmas, noise=False)
    assert guided_calls(recorder) == [True] * 5 + [False] * 5


@torch.inference_mode()
def test_the_way_up_is_not_guided():
    """Flip Sigmas runs from a picture to its noise; the way down again continues with that reference."""
    recorder = Recorder(toy())
    model, latent = patched(recorder.model, CANVAS, guide=guide_of(0.4)), picture(CANVAS)
    (up,) = nodes_custom_sampler.FlipSigmas.execute(schedule(toy(), steps=5)).result
    out, _ = custom(cfg_guider(model), latent, sigmas=up, noise=False)
    assert not any(guided_calls(recorder))
    free, _ = custom(cfg_guider(patched(toy(), CANVAS)), latent, sigmas=up, noise=False)
    assert torch.equal(out, free)
    recorder.events.clear()
    custom(cfg_guider(model), {"samples": out}, steps=5, noise=False)
    assert guided_calls(recorder) == [True] * 2 + [False] * 3
    assert largest(recorder.calls[0][1][..., 44:], out[..., :16]) > 1e-3  # not the canvas's first view


@pytest.mark.parametrize("rate, guided", [(0.3, [False]), (1.0, [True])])
@pytest.mark.parametrize("sampler", ["euler", "dpm_fast", "heun", "dpmpp_2m_sde"])
def test_a_single_step(sampler, rate, guided):
    recorder = Recorder(toy())
    ksampler(patched(recorder.model, CANVAS, guide=guide_of(rate)), empty(CANVAS), sampler, steps=1)
    assert guided_calls(recorder) == guided[: len(recorder.calls)]


def test_a_second_stage_may_run_again():
    """As when the host takes the first stage from its cache, with other runs of the same patch in between."""
    model = patched(toy(), CANVAS, guide=guide_of(0.6))
    first = advanced(model, empty(CANVAS), 0, 3, True, True)
    other = advanced(model, picture(CANVAS), 0, 3, True, True)
    second = [advanced(model, first, 3, 10, False, False)["samples"] for _ in range(2)]
    assert torch.equal(*second)
    assert largest(second[0], stages(model, ())) < 1e-4
    assert largest(advanced(model, other, 3, 10, False, False)["samples"], second[0]) > 0.1


def test_a_second_stage_of_another_patch_warns(caplog):
    first, second = (patched(toy(), CANVAS, guide=guide_of(0.6)) for _ in range(2))
    with caplog.at_level(logging.WARNING):
        out = stages(first, (3,), second=second)
        assert [r for r in caplog.records if "no earlier stage of the same patch" in r.message]
    assert torch.isfinite(out).all()
    caplog.clear()
    stages(first, (3,))
    stages(first, (7,), second=second)  # guidance is over
    assert not [r for r in caplog.records if "SaFa" in r.message]


def test_a_canvas_it_does_not_know_lends_its_first_view():
    recorder = Recorder(toy())
    latent = picture(CANVAS)
    advanced(patched(recorder.model, CANVAS, guide=guide_of(0.6)), latent, 3, 10, False, False)
    x = recorder.calls[0][1]
    assert torch.equal(x[..., 44:], latent["samples"][..., :16])
    assert torch.equal(x[..., 0, :44], latent["samples"][..., 0, :])


# ---- Refused before the model runs ----


def never_runs(model=None):
    model = (model or toy()).clone()

    def forward(apply, args):
        raise AssertionError("the model ran")

    model.set_model_unet_function_wrapper(forward)
    return model


def refused(call, *words, who="SaFa Model Patch"):
    with pytest.raises(ValueError) as error:
        call()
    message = str(error.value)
    assert message.startswith(f"{who}: ") and "\n" not in message
    for word in words:
        assert word in message, message


def sampler_node(canvas=CANVAS, model=None, latent=None, guide=None, **kw):
    options = dict(seed=SEED, steps=4, cfg=4.0, sampler_name="euler", scheduler="simple", denoise=1.0) | kw
    with torch.inference_mode():
        return SaFaSampler.execute(
            model or never_runs(), canvas, **prompts(), latent=latent or empty(CANVAS), guide=guide, **options
        )


@pytest.mark.parametrize(
    "shape, words",
    [
        ((1, 4, 6, 48), ("a canvas of 352 px", "is 384 px long", "Subview Planner")),
        ((1, 4, 44, 6), ("a canvas of 352 px", "is 48 px long")),
        ((1, 4, 44), ("dimension 3", "4 dimensions", "3")),
        ((1, 8, 6, 44), ("samples latents of 4 channels", "[1, 8, 6, 44]")),
        ((1, 4, 1, 44), ("with rows", "use the axis `frames`")),
    ],
)
def test_a_latent_of_another_size(shape, words):
    latent = {"samples": torch.ones(shape)}
    refused(lambda: ksampler(patched(never_runs(), CANVAS, guide=guide_of()), latent), *words)
    refused(lambda: sampler_node(latent=latent, guide=guide_of()), *words, who="SaFa Sampler")


def test_packed_latents():
    nested = comfy.nested_tensor.NestedTensor([torch.ones(1, 4, 6, 44), torch.ones(1, 4, 44)])
    words = ("one latent", "audio with video", "split it")
    refused(lambda: ksampler(patched(never_runs(), CANVAS), {"samples": nested}), *words)
    refused(lambda: sampler_node(latent={"samples": nested}), *words, who="SaFa Sampler")


def test_nothing_to_sample():
    refused(lambda: sampler_node(denoise=0.0), "above 0", "denoise 0", who="SaFa Sampler")
    refused(lambda: sampler_node(steps=0), "at least one step", "0 steps", who="SaFa Sampler")
    model = patched(never_runs(), CANVAS)
    refused(lambda: custom(cfg_guider(model), empty(CANVAS), sigmas=torch.tensor([1.0])), "one step", "1 sigmas")
    # the host itself returns the latent when there is no sigma at all
    latent = picture(CANVAS)
    assert torch.equal(ksampler(model, latent, denoise=0.0), latent["samples"])


def test_two_patches():
    once = patched(never_runs(), CANVAS)
    refused(lambda: patched(once, CANVAS), "already has a SaFa patch")
    refused(lambda: sampler_node(model=once), "already has a SaFa patch", who="SaFa Sampler")


@pytest.mark.parametrize(
    "canvas, join, guide, words",
    [
        (canvas_of(overlap=0.6, loop=True), None, guide_of(), ("only one view covers", "overlap below one half")),
        (CANVAS, SwapJoin(8), None, ("interval", "8")),
        (CANVAS, SwapJoin(1, shift=6), None, ("shift", "6 columns")),
        (CANVAS, SwapJoin(7, axis="rows"), None, ("interval", "6 rows", "7")),
        (CANVAS, None, guide_of(interval=6), ("interval", "6 rows")),
        (CANVAS, None, guide_of(interval=60, axis="frames"), ("interval", "longest middle", "60")),
        (CANVAS, None, guide_of(rate=1.5), ("rate", "[0, 1]", "1.5")),
    ],
)
def test_operators_that_do_not_fit_the_plan(canvas, join, guide, words):
    refused(lambda: patched(never_runs(), canvas, join, guide), *words)
    refused(lambda: sampler_node(canvas, join=join, guide=guide), *words, who="SaFa Sampler")


def test_context_windows():
    windows = nodes_context_windows.ContextWindowsManualNode
    make = windows.define_schema().inputs
    options = {i.id: i.default for i in make if i.id != "model"}
    options["context_schedule"] = "standard_static"
    options["fuse_method"] = "pyramid"
    options["dim"] = 3
    for model in (
        patched(windows.execute(never_runs(), **options).result[0], CANVAS),
        windows.execute(patched(never_runs(), CANVAS), **options).result[0],
    ):
        refused(lambda model=model: ksampler(model, empty(CANVAS)), "Context Windows", "remove one")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 4, 6, 20), ("your picture is 160 px along the canvas and 48 px across", "one view is 128 px and 48 px")),
        ((1, 4, 8, 16), ("128 px along the canvas and 64 px across", "bring it to that size with Upscale Image")),
        ((1, 16, 6, 16), ("reference's latent is [1, 16, 6, 16]", "[1, 4, 6, 16]", "VAE of the model that is sampled")),
        ((3, 4, 6, 16), ("holds 3 pictures or clips, but the canvas 2",)),
        ((1, 4, 16), ("reference's latent is [1, 4, 16]", "[1, 4, 6, 16]")),
    ],
)
def test_a_reference_latent_that_is_not_one_view(shape, words):
    guide = guide_of(latent={"samples": torch.ones(shape)})
    model = patched(never_runs(), CANVAS, guide=guide)
    refused(lambda: ksampler(model, picture(CANVAS, 2), denoise=0.5), *words)


@pytest.mark.parametrize(
    ("columns", "words"), [(30, "is 15 s, one view is 8 s: cut it"), (10, "is 5 s, one view is 8 s")]
)
def test_a_recording_that_is_not_one_view_is_told_in_seconds(columns, words):
    canvas = dataclasses.replace(CANVAS, unit="seconds", scale=0.5)
    guide = guide_of(latent={"samples": torch.ones(1, 4, 6, columns)})
    model = patched(never_runs(), canvas, guide=guide)
    refused(lambda: ksampler(model, picture(canvas), denoise=0.5), f"your recording {words}", "Trim Audio Duration")


def test_another_node_that_replaces_the_batch():
    model = never_runs()
    model.set_model_sampler_calc_cond_batch_function(lambda args: [args["input"]] * len(args["conds"]))
    refused(lambda: ksampler(patched(model, CANVAS, guide=guide_of()), empty(CANVAS)), "another node", "remove")


# ---- What only shows when the model has run ----


class Broken:
    """A model whose prediction for the window at `columns` of the state is not a number in one call."""

    def __init__(self, call, columns, value=float("nan")):
        self.call, self.columns, self.value, self.calls = call, columns, value, 0
        self.model = toy()
        self.model.add_wrapper_with_key("predict_noise", "broken", self._predict)
        self.model.set_model_unet_function_wrapper(self._forward)

    def _predict(self, executor, x, *args):
        self.window = x[..., self.columns]
        return executor(x, *args)

    def _forward(self, apply, args):
        self.calls += 1
        out = apply(args["input"], args["timestep"], **args["c"])
        if self.calls != self.call:
            return out
        mine = (args["input"] == self.window).flatten(1).all(1)
        assert mine.sum() == 2  # with and without the prompt
        out = out.clone()
        out[mine, 1, 2, 3] = self.value
        return out


BROKEN = {
    "view 1 of 4": slice(0, 16),
    "view 3 of 4 (144 px to 272 px)": slice(18, 34),
    "the reference": slice(44, 60),
}


@pytest.mark.parametrize("step, name, value", pairwise([2, 6], BROKEN, [float("nan"), float("inf")]))
def test_nan_is_named_with_step_and_view(step, name, value):
    columns = BROKEN[name]
    broken = Broken(step, columns, value)
    model = patched(broken.model, CANVAS, guide=guide_of(1.0))
    refused(lambda: ksampler(model, empty(CANVAS)), f"step {step} in", name, "NaN")
    assert broken.calls <= step + 1


def test_nan_in_one_view():
    one = canvas_of(16, 16)
    refused(lambda: ksampler(patched(Broken(3, slice(0, 16)).model, one), empty(one)), "step 3 in view 1 of 1")
