"""Every sampler of the host, samplers of other packs, callbacks and interruption."""

import logging
from itertools import product

import pytest
import torch

import comfy.model_management
import comfy.samplers
import comfy.utils
from comfy.k_diffusion.sampling import default_noise_sampler, sample_euler_ancestral

from safa_pack.nodes.joint.injected_noise import BROWNIAN
from safa_pack.nodes.joint.schedule import CALLS_PER_STEP
from safa_pack.tests.nodes import host_calls
from safa_pack.tests.nodes.harness import (
    VIEW,
    Recorder,
    apart,
    canvas_of,
    cfg_guider,
    custom,
    empty,
    guide_of,
    guided_places,
    ksampler,
    patch_in,
    patched,
    picture,
    schedule,
)
from safa_pack.tests.nodes.host_list import host_list
from safa_pack.tests.tiny_models import ToyDenoiser, toy

pytestmark = [
    pytest.mark.host,
    pytest.mark.filterwarnings("ignore::UserWarning:torchsde"),
    pytest.mark.filterwarnings("ignore:Converting|To copy|__array_wrap__"),
]

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
BY_SIGMA = ("dpm_fast", "dpm_adaptive")
SEVERAL_CALLS = [name for name in SAMPLERS if f"sample_{name}" in CALLS_PER_STEP] + ["sa_solver_pece"]
CANVAS, GUIDE = canvas_of(28, 12, 0.25, rows=4), guide_of(0.4)
TABLE = {}


def record(sampler, flow, steps, guide=GUIDE, scheduler="normal", latent=None, **kw):
    recorder = Recorder(toy(flow=flow))
    model = patched(recorder.model, CANVAS, guide=guide)
    ksampler(model, latent or empty(CANVAS), sampler, scheduler, steps, **kw)
    return recorder


def check(recorder, sampler, sigmas, k, guide=GUIDE):
    """Assert that exactly k steps are guided; returns (largest difference in guided calls, guided steps seen)."""
    calls, first = recorder.calls, recorder.first_calls()
    tied = [apart(out, CANVAS, guide) == 0 for _, _, out in calls]
    if sampler in BY_SIGMA:
        last = float(sigmas[k]) if k < len(sigmas) else -1.0
        expected = [k > 0 and sigma > last for sigma, _, _ in calls]
        entering = [i for i, guided in enumerate(expected) if guided]
    else:
        end = first[k] if k < len(first) else len(calls)
        expected = [i < end for i in range(len(calls))]
        entering = range(min(end + 1, len(calls)) if k else 0)  # and right after the last guided step
    assert tied == expected, f"{sampler}: guided calls {tied}, expected {expected}"
    return max((apart(calls[i][1], CANVAS, guide) for i in entering), default=0.0), sum(tied[i] for i in first)


def free_places_differ(state):
    """Whether every row and column that is not guided has something of its own."""
    places, column = guided_places(CANVAS, GUIDE)
    own = (state[..., :28] - state[..., 28:][..., column])[..., ~places]
    return bool((own.abs() > 1e-4).float().mean() > 0.95)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guided_places_equal_the_reference_in_every_sampler(sampler):
    row = []
    for flow in (False, True):
        recorder = record(sampler, flow, 5)
        different, k = check(recorder, sampler, schedule(toy(flow=flow), "normal", 5), 2)
        assert different == 0
        # uni_pc and those by sigma call back at other places
        assert k == 2 or sampler in BY_SIGMA
        assert free_places_differ(recorder.calls[1][1])
        assert torch.isfinite(recorder.calls[-1][2]).all()
        row += [different, k if sampler not in BY_SIGMA else "sigma"]
    TABLE[sampler] = row


def test_table_of_the_samplers(capsys):
    with capsys.disabled():
        print("\n  guided places against the reference, K = 2 of 5 steps")
        print(f"  {'sampler':28}{'EPS':>8}{'K':>7}{'FLOW':>8}{'K':>7}")
        for name, (eps, k, flow, k_flow) in TABLE.items():
            print(f"  {name:28}{eps:8g}{k!s:>7}{flow:8g}{k_flow!s:>7}")


# no guided step at all: whether it is left out does not depend on the sampler, but on how it counts them
@pytest.mark.parametrize(
    ("sampler", "k"),
    [*product([*SEVERAL_CALLS, "uni_pc", "sa_solver"], [1, 3, 4]), ("heun", 0), ("uni_pc", 0), ("dpm_fast", 0)],
)
def test_guidance_at_both_ends_of_the_schedule(sampler, k):
    guide = guide_of(k / 4)
    recorder = record(sampler, False, 4, guide)
    assert check(recorder, sampler, schedule(toy(), "normal", 4), k, guide)[0] == 0


@pytest.mark.parametrize(
    "sampler", ["heun", "dpmpp_2s_ancestral", "seeds_3", "lms", "uni_pc", "sa_solver_pece", "ddim"]
)
@pytest.mark.parametrize("flow", [False, True])
def test_guided_places_with_a_mask_and_a_picture(sampler, flow):
    latent = picture(CANVAS)
    latent["noise_mask"] = torch.ones(1, 32, 224)
    latent["noise_mask"][:, :, :40] = 0
    latent["noise_mask"][:, :, 150:160] = 0.5
    guide = guide_of(0.5)
    recorder = record(sampler, flow, 6, guide, latent=latent, denoise=0.8)
    places, column = guided_places(CANVAS, guide)
    places = places.clone()  # they are kept for others
    places[:, :6] = False
    places[:, 18:21] = False
    first = recorder.first_calls()
    for sigma, x, out in recorder.calls[: first[3]]:
        for state in (x, out):
            canvas, reference = state[..., :28], state[..., 28:]
            assert float((canvas - reference[..., column])[..., places].abs().max()) == 0, sigma


def test_all_schedulers():
    for scheduler in comfy.samplers.KSampler.SCHEDULERS:
        recorder = record("euler", False, 5, scheduler=scheduler)
        steps = len(recorder.steps)
        assert check(recorder, "euler", None, round(0.4 * steps))[0] == 0, scheduler


# ---- Samplers with options, and those of other packs ----

SDE = {"eta": 0.5, "s_noise": 0.9}
ADAPTIVE = {"order": 2, "rtol": 0.2, "atol": 0.1, "h_init": 0.1, "eta": 1.0, "s_noise": 1.0}
CONTROLLED = {"pcoeff": 0.0, "icoeff": 1.0, "dcoeff": 0.0, "accept_safety": 0.81}
NODES_WITH_OPTIONS = [
    ("KSamplerSelect", {"sampler_name": "res_multistep"}),
    ("SamplerDPMAdaptative", ADAPTIVE | CONTROLLED),
    ("SamplerDPMPP_2M_SDE", {"solver_type": "heun", "noise_device": "gpu"} | SDE),
    ("SamplerDPMPP_2S_Ancestral", SDE),
    ("SamplerDPMPP_3M_SDE", {"noise_device": "cpu"} | SDE),
    ("SamplerDPMPP_SDE", {"r": 0.4, "noise_device": "gpu"} | SDE),
    ("SamplerER_SDE", {"solver_type": "Reverse-time SDE", "max_stage": 2, "eta": 1.0, "s_noise": 1.0}),
    ("SamplerEulerAncestral", SDE),
    ("SamplerEulerAncestralCFGPP", SDE),
    ("SamplerEulerCFGpp", {"version": "regular"}),
    ("SamplerEulerCFGpp", {"version": "alternative"}),
    ("SamplerLCM", {"s_noise": 0.9, "s_noise_end": 0.5, "noise_clip_std": 2.0}),
    ("SamplerLMS", {"order": 2}),
    ("SamplerSASolver", {"model": toy(), "eta": 1.0, "sde_start_percent": 0.0, "sde_end_percent": 1.0, "s_noise": 1.0,
                         "predictor_order": 2, "corrector_order": 3, "use_pece": True, "simple_order_2": False}),
    ("SamplerSEEDS2", {"solver_type": "phi_2", "eta": 1.0, "s_noise": 1.0, "r": 1.0}),
    ("VOIDSampler", {}),
]  # fmt: skip
THAT_RESIZE = {"SamplerLCMUpscale", "SamplerARVideo"}


def sampler_of(name, **options):
    (sampler,) = host_list()[name].execute(**options).result
    return sampler


def test_every_sampler_node_of_the_host_is_known():
    names = {name for name, node in host_list().items() if "SAMPLER" in node.RETURN_TYPES}
    unknown = sorted(names - {name for name, _ in NODES_WITH_OPTIONS} - THAT_RESIZE)
    assert not unknown, (
        f"Sampler nodes of the host that are not tried here; put them into NODES_WITH_OPTIONS: {unknown}"
    )


@pytest.mark.parametrize(("node", "options"), NODES_WITH_OPTIONS)
def test_sampler_nodes_with_options(node, options):
    recorder = Recorder(toy())
    sampler = sampler_of(node, **options)
    custom(cfg_guider(patched(recorder.model, CANVAS, guide=GUIDE)), empty(CANVAS), sampler, steps=5)
    name = "dpm_adaptive" if node == "SamplerDPMAdaptative" else node
    assert check(recorder, name, schedule(toy(), steps=5), 2)[0] == 0
    assert free_places_differ(recorder.calls[1][1])


def restless(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """A sampler of another pack: Euler ancestral with a generator of its own."""
    generator = torch.Generator().manual_seed(5)

    def noise(sigma, sigma_next):
        return torch.randn(x.shape, generator=generator)

    return sample_euler_ancestral(model, x, sigmas, extra_args, callback, disable, noise_sampler=noise)


def test_noise_that_cannot_be_tied_is_repaired_with_one_warning(caplog):
    recorder = Recorder(toy())
    model = patched(recorder.model, CANVAS, guide=guide_of(0.6))
    with caplog.at_level(logging.WARNING):
        out, _ = custom(cfg_guider(model), empty(CANVAS), comfy.samplers.KSAMPLER(restless), steps=5)
    (warning,) = [r.message for r in caplog.records if "SaFa" in r.message]
    assert "restless" in warning and "cannot be tied" in warning
    for _, _, denoised in recorder.calls[:3]:
        assert apart(denoised, CANVAS, GUIDE) == 0
    assert torch.isfinite(out).all()
    caplog.clear()
    custom(cfg_guider(model), empty(CANVAS), "euler_ancestral", steps=5)
    assert not [r for r in caplog.records if "SaFa" in r.message]


def test_churn_is_repaired(caplog):
    recorder = Recorder(toy())
    sampler = comfy.samplers.ksampler("heun", {"s_churn": 2.0})
    with caplog.at_level(logging.WARNING):
        custom(cfg_guider(patched(recorder.model, CANVAS, guide=GUIDE)), empty(CANVAS), sampler, steps=5)
    assert len([r for r in caplog.records if "heun" in r.message]) == 1
    assert check(recorder, "heun", None, 2)[1] == 2


def test_a_sampler_that_resizes_is_refused_in_words():
    sampler = sampler_of("SamplerLCMUpscale", scale_ratio=2.0, scale_steps=-1, upscale_method="bilinear")
    with pytest.raises(ValueError, match="SaFa Model Patch: the sampler sample_lcm_upscale changes the latent's size"):
        custom(cfg_guider(patched(toy(), CANVAS)), empty(CANVAS), sampler)
    unscaled = sampler_of("SamplerLCMUpscale", scale_ratio=1.0, scale_steps=-1, upscale_method="bilinear")
    assert torch.isfinite(custom(cfg_guider(patched(toy(), CANVAS, guide=GUIDE)), empty(CANVAS), unscaled)[0]).all()


def test_a_sampler_that_takes_frame_by_frame_is_refused_in_words(monkeypatch):
    for cache in ("init_kv_caches", "init_crossattn_caches"):  # what it looks for in a network
        monkeypatch.setattr(ToyDenoiser, cache, lambda self, *args: [], raising=False)
    video = host_calls.canvas_of((1, 4, 2, 4, 28), 12)
    model = patched(toy(dims=3), video, guide=GUIDE)
    with pytest.raises(ValueError, match="SaFa Model Patch: the sampler sample_ar_video changes the latent's size"):
        custom(cfg_guider(model), empty(video), sampler_of("SamplerARVideo", num_frame_per_block=1))


def test_a_users_noise_sampler_is_heard_and_tied():
    def ramp(sigma, sigma_next):
        return torch.linspace(-1, 1, 28).expand(1, 4, 4, 28)

    outs = []
    for options in ({}, {"noise_sampler": ramp}):
        recorder = Recorder(toy())
        sampler = comfy.samplers.ksampler("euler_ancestral", options)
        outs += custom(cfg_guider(patched(recorder.model, CANVAS, guide=GUIDE)), empty(CANVAS), sampler, steps=5)[:1]
        assert check(recorder, "euler_ancestral", None, 2)[0] == 0
        assert sampler.extra_options is options
    assert (outs[0] - outs[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    "sampler", ["euler_ancestral", "ddpm", "dpmpp_2m_sde", "dpmpp_3m_sde_gpu", "seeds_2", "er_sde"]
)
def test_the_canvas_hears_the_noise_that_the_host_would_have_drawn(sampler):
    """With a guide that guides no step the canvas is as without one."""
    free = ksampler(patched(toy(), CANVAS), empty(CANVAS), sampler)
    assert torch.equal(ksampler(patched(toy(), CANVAS, guide=guide_of(0.0)), empty(CANVAS), sampler), free)


def test_the_brownian_samplers_of_the_host_are_all_known():
    """The table in injected_noise.py against what the host's functions do without a noise sampler."""
    made = {}
    original = comfy.k_diffusion.sampling.BrownianTreeNoiseSampler
    for name in SAMPLERS:
        seen = []

        class Noted(original):
            def __init__(self, *args, cpu=False, _seen=seen, **kw):
                _seen.append(cpu)
                super().__init__(*args, cpu=cpu, **kw)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(comfy.k_diffusion.sampling, "BrownianTreeNoiseSampler", Noted)
            ksampler(toy(), {"samples": torch.zeros(1, 4, 4, 8)}, name, steps=3)
        if seen:
            made[comfy.samplers.sampler_object(name).sampler_function.__name__] = seen[0]
    assert made == BROWNIAN


# ---- Around a run ----


def test_callbacks_see_the_canvas_alone():
    recorder = record("euler", False, 5)
    assert [step[0] for step in recorder.steps] == [0, 1, 2, 3, 4]
    for _, denoised, x, total in recorder.steps:
        assert denoised.shape == x.shape == (1, 4, 4, 28) and total == 5
    for (_, x, out), (_, denoised, shown, _) in zip(recorder.calls, recorder.steps, strict=True):
        assert torch.equal(out[..., :28], denoised) and torch.equal(x[..., :28], shown)


def test_denoised_output_is_the_canvas():
    out, denoised = custom(cfg_guider(patched(toy(), CANVAS, guide=GUIDE)), empty(CANVAS))
    assert out.shape == denoised.shape == (1, 4, 4, 28)
    assert torch.allclose(out, denoised, atol=1e-4)  # the last step goes to sigma 0


class Interrupt:
    """Presses the host's Cancel button in the second callback."""

    def __init__(self, model):
        self.model = model.clone()
        self.model.add_wrapper_with_key("sampler_sample", "interrupt", self._sample)

    def _sample(self, executor, guider, sigmas, extra_args, callback, *args):
        def step(number, *info):
            if number == 1:
                comfy.model_management.interrupt_current_processing()
            callback(number, *info)

        return executor(guider, sigmas, extra_args, step, *args)


def test_interruption_leaves_everything_as_it_was(monkeypatch):
    def hook(*args, **kw):  # as main.py's: it looks at every step
        comfy.model_management.throw_exception_if_processing_interrupted()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    model = toy()
    options = {"eta": 0.7}
    sampler = comfy.samplers.ksampler("euler_ancestral", options)
    interrupted = patched(Interrupt(model).model, CANVAS, guide=GUIDE)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        custom(cfg_guider(interrupted), empty(CANVAS), sampler)
    assert sampler.extra_options is options and options == {"eta": 0.7}
    again = patched(model, CANVAS, guide=GUIDE)
    fresh, _ = custom(cfg_guider(patched(toy(), CANVAS, guide=GUIDE)), empty(CANVAS), sampler)
    assert torch.equal(custom(cfg_guider(again), empty(CANVAS), sampler)[0], fresh)


class Windows(Recorder):
    """Counts the windows of every forward, in order."""

    def __init__(self, model):
        super().__init__(model)
        self.windows = []
        self.model.set_model_unet_function_wrapper(self._forward)

    def _forward(self, apply, args):
        assert args["input"].shape[-1] == CANVAS.plan.view
        self.windows.append(len(args["input"]))
        return apply(args["input"], args["timestep"], **args["c"])


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun", "dpmpp_2m_sde"])
def test_the_patch_drops_the_reference_after_the_guided_steps(sampler):
    windows, views = Windows(toy()), len(CANVAS.plan)
    out = ksampler(patched(windows.model, CANVAS, guide=GUIDE), empty(CANVAS), sampler, steps=5)
    guided = windows.first_calls()[2]
    assert windows.windows == [2 * views + 2] * guided + [2 * views] * (len(windows.windows) - guided)
    kept = patched(toy(), CANVAS, guide=GUIDE)
    patch_in(kept).finish_reference = True
    assert torch.equal(out, ksampler(kept, empty(CANVAS), sampler, steps=5))


def test_memory_is_asked_for_views_not_for_the_canvas(monkeypatch):
    canvas, asked = canvas_of(400, VIEW), []
    model = toy()
    required = type(model.model).memory_required

    def noted(self, shape, cond_shapes=None):
        asked.append(list(shape))
        return required(self, shape, cond_shapes or {})

    monkeypatch.setattr(type(model.model), "memory_required", noted)
    ksampler(patched(model, canvas, guide=guide_of()), empty(canvas), steps=1)
    assert asked and all(shape[3] == VIEW for shape in asked)
    several = max(shape[0] for shape in asked)
    asked.clear()
    room = model.model_size() + int(1.5 * required(model.model, [2, 4, 6, VIEW]) * 2.5)
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *args, **kw: room)
    ksampler(patched(model, canvas, guide=guide_of()), empty(canvas), steps=1)
    assert [shape[0] for shape in asked[:3]] == [2, 4, 2]  # one view with CFG, then two views with and without
    assert several > 4


def test_a_model_that_was_patched_is_not_changed():
    model = toy()
    before = ksampler(model, empty(CANVAS))
    ksampler(patched(model, CANVAS, guide=GUIDE), empty(CANVAS))
    assert torch.equal(ksampler(model, empty(CANVAS)), before)
    assert not model.get_all_wrappers("sampler_sample")
    assert default_noise_sampler is comfy.k_diffusion.sampling.default_noise_sampler
