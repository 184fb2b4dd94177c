"""The patched KSampler against Algorithm 1 written out, MultiDiffusion's formula and the host's own sampling."""

import pytest
import torch

import comfy.model_management
import comfy.sample
import comfy.samplers
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

from safa_pack.nodes.joint.sampler import SaFaSampler
from safa_pack.safa_core import AverageJoin, ReferenceGuide, SwapJoin, TriangularJoin, joint_denoise
from safa_pack.tests.nodes.harness import (
    SEED,
    SeparateCalls,
    canvas_of,
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
from safa_pack.tests.pairs import pairwise
from safa_pack.tests.tiny_models import conditioning, sd3, toy

pytestmark = [
    pytest.mark.host,
    pytest.mark.filterwarnings("ignore::UserWarning:torchsde"),
    pytest.mark.filterwarnings("ignore:__array_wrap__"),
]


def toy_v():
    return ModelSamplingDiscrete().patch(toy(), "v_prediction", False)[0]


MODELS = {"eps": toy, "v": toy_v, "flow": lambda: toy(flow=True)}


def largest(a, b):
    assert torch.isfinite(a).all() and a.shape == b.shape
    return float((a - b).abs().max())


@pytest.mark.parametrize("loop, w, rate, axis", pairwise([False, True], [1, 2, 4], [0, 0.3, 1], ["rows", "frames"]))
def test_toy_is_algorithm_1(loop, w, rate, axis):
    canvas, guide = canvas_of(loop=loop), guide_of(rate, min(w, 3), axis)
    out = ksampler(patched(toy(), canvas, SwapJoin(w), guide), empty(canvas))
    want, _ = literal(toy(), canvas, schedule(toy()), guide, w)
    assert largest(out, want) == 0


@pytest.mark.parametrize("prediction, scheduler, batch", pairwise(MODELS, ["normal", "karras"], [1, 2]))
def test_prediction_types_batches_and_schedules(prediction, scheduler, batch):
    model, canvas, guide = MODELS[prediction](), canvas_of(loop=True), guide_of(0.5)
    out = ksampler(patched(model, canvas, guide=guide), empty(canvas, batch), scheduler=scheduler)
    want, _ = literal(model, canvas, schedule(model, scheduler), guide, batch=batch)
    assert largest(out, want) == 0


def test_without_a_guide_and_with_cfg_1():
    canvas = canvas_of()
    out = ksampler(patched(toy(), canvas), empty(canvas), cfg=1.0)
    assert largest(out, literal(toy(), canvas, schedule(toy()), cfg=1.0)[0]) == 0


@pytest.mark.parametrize("loop, w, rate, axis, batch", [(False, 2, 1, "frames", 1), (True, 1, 0.5, "rows", 2)])
def test_tiny_sd3_is_algorithm_1(loop, w, rate, axis, batch):
    model, conds = sd3(), prompts("sd3")
    canvas, guide = canvas_of(28, 12, loop=loop, channels=16), guide_of(rate, 1, axis)
    out = ksampler(patched(model, canvas, SwapJoin(w), guide), empty(canvas, batch), steps=2, **conds)
    want, _ = literal(model, canvas, schedule(model, steps=2), guide, w, batch, **conds)
    assert largest(out, want) <= 1e-5
    free = ksampler(patched(model, canvas, SwapJoin(w)), empty(canvas, batch), steps=2, **conds)
    assert largest(out, free) > 0.01  # the guide is not lost in the tolerance


@pytest.mark.parametrize("prediction", MODELS)
@pytest.mark.parametrize("loop, w, rate, axis", [(False, 4, 0.3, "frames"), (True, 1, 1, "rows"), (True, 2, 0, "rows")])
@torch.inference_mode()
def test_joint_denoise_is_the_patched_ksampler(prediction, loop, w, rate, axis):
    model, canvas, steps = MODELS[prediction](), canvas_of(loop=loop), 5
    out = ksampler(patched(model, canvas, SwapJoin(w), guide_of(rate, 2, axis)), empty(canvas), steps=steps)
    sigmas = schedule(model, steps=steps)
    calls = SeparateCalls(model).euler(sigmas)
    noise = comfy.sample.prepare_noise(empty(canvas)["samples"], SEED)
    core, _ = joint_denoise(
        lambda views, k: torch.stack([calls(view, k) for view in views]),
        start_of(model, sigmas, noise),
        canvas.plan,
        steps,
        SwapJoin(w),
        ReferenceGuide(rate, 2, axis),
        start_of(model, sigmas, own_noise(noise[..., :16])),
    )
    assert largest(out, model.model.process_latent_out(core)) == 0


def multidiffusion(model, canvas, steps, window):
    """Bar-Tal et al., Eq. 5: each pixel is the weighted mean over the windows that show it, one call per window."""
    sigmas, plan = schedule(model, steps=steps), canvas.plan
    calls = SeparateCalls(model).euler(sigmas)
    x = start_of(model, sigmas, comfy.sample.prepare_noise(empty(canvas)["samples"], SEED))
    for k in range(steps):
        total, count = torch.zeros_like(x), torch.zeros(plan.length)
        for start in plan.starts:
            columns = [(start + p) % plan.length for p in range(plan.view)]
            seen = calls(x[..., columns], k)
            for p, c in enumerate(columns):
                total[..., c] += window(p) * seen[..., p]
                count[c] += window(p)
        x = total / count
    return model.model.process_latent_out(x)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("overlap", [0.25, 0.8])
@pytest.mark.parametrize(
    "join, window", [(AverageJoin(), lambda p: 1), (TriangularJoin(), lambda p: min(p + 1, 16 - p))]
)
def test_average_joins_are_multidiffusion(join, window, overlap, loop):
    canvas = canvas_of(36, 16, overlap, loop)
    out = ksampler(patched(toy(), canvas, join), empty(canvas), steps=4)
    assert largest(out, multidiffusion(toy(), canvas, 4, window)) < 2e-5
    assert largest(out, ksampler(patched(toy(), canvas, SwapJoin()), empty(canvas), steps=4)) > 0.1


@pytest.mark.parametrize(
    "sampler", ["euler", "dpmpp_2m", "heun", "euler_ancestral", "dpmpp_sde", "uni_pc", "ddim", "lcm"]
)
@pytest.mark.parametrize("prediction", MODELS)
def test_one_view_without_a_guide_is_the_hosts_ksampler(prediction, sampler):
    model, canvas = MODELS[prediction](), canvas_of(16, 16)
    latent = picture(canvas, 2)
    latent["noise_mask"] = torch.ones(1, 48, 128).index_fill(2, torch.arange(40), 0.5)
    conds = prompts()
    conds["positive"] += conditioning("toy", 5, area=(3, 9, 2, 4), strength=0.7)
    out = ksampler(patched(model, canvas), latent, sampler, denoise=0.8, **conds)
    assert torch.equal(out, ksampler(model, latent, sampler, denoise=0.8, **conds))


def test_one_view_of_sd3_is_the_hosts_ksampler():
    canvas, conds = canvas_of(12, 12, channels=16), prompts("sd3")
    out = ksampler(patched(sd3(), canvas), empty(canvas), steps=2, **conds)
    assert torch.equal(out, ksampler(sd3(), empty(canvas), steps=2, **conds))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "seeds_2"])
def test_same_seed_same_bits_and_other_seed_others(sampler):
    canvas, guide = canvas_of(), guide_of()
    model = patched(toy(), canvas, guide=guide)
    first = ksampler(model, empty(canvas), sampler)
    assert torch.equal(first, ksampler(model, empty(canvas), sampler))
    assert torch.equal(first, ksampler(patched(toy(), canvas, guide=guide), empty(canvas), sampler))
    assert largest(first, ksampler(model, empty(canvas), sampler, seed=SEED + 1)) > 0.1


class Batches:
    """Notes how many windows each forward of a model gets."""

    def __init__(self, model):
        self.sizes, self.model = [], model.clone()
        self.model.set_model_unet_function_wrapper(self._call)

    def _call(self, apply, args):
        self.sizes.append(len(args["input"]))
        return apply(args["input"], args["timestep"], **args["c"])


@pytest.mark.parametrize("kind, channels, steps", [("toy", 4, 4), ("sd3", 16, 2)])
def test_little_memory_only_makes_smaller_batches(monkeypatch, kind, channels, steps):
    model = Batches({"toy": toy, "sd3": sd3}[kind]())
    canvas, guide, conds = canvas_of(36, 16, channels=channels), guide_of(), prompts(kind)
    plenty = ksampler(patched(model.model, canvas, guide=guide), empty(canvas), steps=steps, **conds)
    views = len(canvas.plan) + 1
    assert max(model.sizes) == 2 * views
    model.sizes.clear()
    monkeypatch.setattr(type(model.model), "get_free_memory", lambda self, device: 0)
    little = ksampler(patched(model.model, canvas, guide=guide), empty(canvas), steps=steps, **conds)
    assert max(model.sizes) == 1
    assert largest(plenty, little) <= (0 if kind == "toy" else 1e-5)


def run_sampler_node(model, canvas, guide, latent=None, **kw):
    defaults = dict(seed=SEED, steps=6, cfg=4.0, sampler_name="euler", scheduler="simple", denoise=1.0, **prompts())
    with torch.inference_mode():
        return SaFaSampler.execute(model, canvas, latent=latent or empty(canvas), guide=guide, **defaults | kw).result


def test_sampler_node_is_patch_and_ksampler():
    canvas, guide = canvas_of(), guide_of()
    out, _ = run_sampler_node(toy(), canvas, guide)
    assert torch.equal(out["samples"], ksampler(patched(toy(), canvas, guide=guide), empty(canvas)))


@torch.inference_mode()
def ordinary(model, noise, sampler, latent=None, denoise=1.0, steps=6, **conds):
    """The host's sampling of one view from this noise."""
    latent = torch.zeros_like(noise) if latent is None else latent
    conds = prompts() | conds
    return comfy.sample.sample(
        model, noise, steps, 4.0, sampler, "simple", latent_image=latent, denoise=denoise, seed=SEED, **conds
    )


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun", "lms", "uni_pc", "deis"])
@pytest.mark.parametrize("rate", [0.3, 1])
def test_the_reference_is_an_ordinary_sampling_of_one_view(sampler, rate):
    canvas = canvas_of()
    _, reference = run_sampler_node(toy(), canvas, guide_of(rate), sampler_name=sampler)
    want = ordinary(toy(), own_noise(reference["samples"]), sampler)
    # uni_pc's einsum sees another layout
    assert largest(reference["samples"], want) <= (1e-5 if sampler == "uni_pc" else 0)


def test_the_reference_hears_its_own_prompt():
    canvas, own = canvas_of(), conditioning("toy", 40)
    guide = guide_of(0.5, conditioning=own)
    out, reference = run_sampler_node(toy(), canvas, guide)
    want, want_reference = literal(toy(), canvas, schedule(toy()), guide, own=own)
    assert largest(out["samples"], want) == 0
    assert largest(reference["samples"], want_reference) == 0
    assert largest(reference["samples"], ordinary(toy(), own_noise(want_reference), "euler", positive=own)) == 0
    assert largest(out["samples"], literal(toy(), canvas, schedule(toy()), guide)[0]) > 0.1
