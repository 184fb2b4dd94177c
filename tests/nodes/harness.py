"""A patched model through the host's own sampler nodes, and the same sampling by separate calls of the host."""

from functools import lru_cache

import torch

import comfy.model_management
import comfy.sample
import comfy.samplers
from comfy_extras import nodes_custom_sampler as custom_nodes

import nodes as host_nodes
from safa_pack.nodes.canvas import Canvas, Guide
from safa_pack.nodes.joint.reference import REFERENCE_SEED
from safa_pack.nodes.joint.sampler import SaFaModelPatch
from safa_pack.safa_core import plan_views
from safa_pack.tests.nodes.literal import eq9, literal_algorithm_1
from safa_pack.tests.tiny_models import conditioning

ROWS, LENGTH, VIEW, SEED = 6, 44, 16, 3
ALIVE = []  # the host takes a clone that went away with its parent for a leak, and searches for it at every load


def canvas_of(length=LENGTH, view=VIEW, overlap=0.25, loop=False, channels=4, rows=ROWS):
    """A picture canvas, [channels, rows, length]."""
    return Canvas(plan_views(length, view, overlap, loop), (channels, rows, length), 3, "pixels", 8)


def guide_of(rate=0.3, interval=1, axis="rows", conditioning=None, latent=None):
    return Guide(rate, interval, axis, conditioning, latent)


def patched(model, canvas, join=None, guide=None):
    """What the node SaFa Model Patch gives."""
    ALIVE.append(model)
    return SaFaModelPatch.execute(model, canvas, join, guide).result[0]


def patch_in(model):
    """The JointPatch behind a patched model."""
    (wrapper,) = model.get_wrappers("sampler_sample", "safa")
    return wrapper.__self__


def empty(canvas, batch=1):
    return {"samples": torch.zeros(batch, *canvas.shape)}


def picture(canvas, batch=1, seed=90):
    """A latent with something in it."""
    return {"samples": torch.randn(batch, *canvas.shape, generator=torch.Generator().manual_seed(seed))}


def prompts(kind="toy", **values):
    return {"positive": conditioning(kind, 1, **values), "negative": conditioning(kind, 2)}


@torch.inference_mode()
def ksampler(model, latent, sampler="euler", scheduler="simple", steps=6, cfg=4.0, seed=SEED, denoise=1.0, **conds):
    conds = conds or prompts()
    (out,) = host_nodes.KSampler().sample(
        model, seed, steps, cfg, sampler, scheduler, latent_image=latent, denoise=denoise, **conds
    )
    return out["samples"]


@torch.inference_mode()
def advanced(model, latent, start, end, add_noise, leftover, sampler="euler", scheduler="simple", steps=10, **conds):
    """KSampler (Advanced): steps `start` to `end` of `steps`. Gives the LATENT."""
    (out,) = host_nodes.KSamplerAdvanced().sample(
        model,
        "enable" if add_noise else "disable",
        SEED,
        steps,
        4.0,
        sampler,
        scheduler,
        latent_image=latent,
        start_at_step=start,
        end_at_step=end,
        return_with_leftover_noise="enable" if leftover else "disable",
        **(conds or prompts()),
    )
    return out


def schedule(model, scheduler="simple", steps=6):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


@torch.inference_mode()
def custom(guider, latent, sampler="euler", sigmas=None, steps=6, seed=SEED, noise=True):
    """SamplerCustomAdvanced: (output, denoised output). sampler: a name or a SAMPLER."""
    if isinstance(sampler, str):
        (sampler,) = custom_nodes.KSamplerSelect.execute(sampler).result
    source = custom_nodes.RandomNoise.execute(seed) if noise else custom_nodes.DisableNoise.execute()
    sigmas = schedule(guider.model_patcher, steps=steps) if sigmas is None else sigmas
    out = custom_nodes.SamplerCustomAdvanced.execute(source.result[0], guider, sampler, sigmas, latent)
    return tuple(o["samples"] for o in out.result)


@torch.inference_mode()
def cfg_guider(model, cfg=4.0, **conds):
    conds = conds or prompts()
    return custom_nodes.CFGGuider.execute(model, cfg=cfg, **conds).result[0]


def own_noise(latent, seed=SEED):
    """The reference's noise for a window like `latent`."""
    return torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed + REFERENCE_SEED))


class SeparateCalls:
    """The host's denoiser for one window at a time, on a model without the patch."""

    def __init__(self, model, cfg=4.0, seed=SEED, positive=None, negative=None):
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive or prompts()["positive"], negative or prompts()["negative"])
        comfy.model_management.load_models_gpu([model])
        model.pre_run()
        self.model, self.conds, self.cfg, self.seed = model, guider.original_conds, cfg, seed

    @torch.inference_mode()
    def __call__(self, window, sigma):
        conds = comfy.samplers.process_conds(
            self.model.model,
            window,
            {name: [c.copy() for c in cond] for name, cond in self.conds.items()},
            window.device,
            torch.zeros_like(window),
            None,
            self.seed,
            latent_shapes=[window.shape],
        )
        return comfy.samplers.sampling_function(
            self.model.model,
            window,
            sigma.expand(len(window)),
            conds["negative"],
            conds["positive"],
            self.cfg,
            model_options={"transformer_options": {}},
        )

    def euler(self, sigmas):
        """The model and one Euler step, step(window, k)."""

        def step(window, k):
            d = (window - self(window, sigmas[k])) / sigmas[k]
            return window + d * (sigmas[k + 1] - sigmas[k])

        return step


@torch.inference_mode()
def start_of(model, sigmas, noise, latent=None):
    """x before the first step, in the model's scale."""
    inner = model.model
    most = comfy.samplers.Sampler().max_denoise(_Wrapped(inner), sigmas)
    latent = torch.zeros_like(noise) if latent is None else inner.process_latent_in(latent)
    return inner.model_sampling.noise_scaling(sigmas[0], noise, latent, most)


class _Wrapped:
    def __init__(self, inner_model):
        self.inner_model = inner_model


@torch.inference_mode()
def literal(
    model, canvas, sigmas, guide=None, w=1, batch=1, latent=None, reference_latent=None, own=None, seed=SEED, **kw
):
    """Algorithm 1 with Euler steps: (canvas, reference) as the host hands them out.

    guide: Guide or None. own: the reference's own positive prompt. kw: cfg, positive, negative.
    """
    plan, steps = canvas.plan, len(sigmas) - 1
    noise = comfy.sample.prepare_noise(torch.zeros(batch, *canvas.shape), seed)
    start = start_of(model, sigmas, noise, latent)
    calls = SeparateCalls(model, seed=seed, **kw).euler(sigmas)
    guided, reference, calls_of_reference = {}, None, calls
    if guide is not None:
        own_window = own_noise(noise[..., : plan.view], seed)
        reference = start_of(model, sigmas, own_window, reference_latent)
        guided = {
            "guided": int(guide.rate * steps + 0.5),
            "w_refer": guide.interval,
            "by_rows": guide.axis == "rows",
        }
        if own is not None:
            calls_of_reference = SeparateCalls(model, seed=seed, **kw | {"positive": own}).euler(sigmas)

    def step(window, k, i):
        return (calls_of_reference if i == len(plan) else calls)(window, k)

    out, ref = literal_algorithm_1(step, start, reference, plan.starts, plan.view, steps, plan.loop, w, **guided)
    finish = model.model.process_latent_out
    return finish(out), None if ref is None else finish(ref)


@lru_cache
def guided_places(canvas, guide):
    """Eq. 10 written out: (guided [rows, length] bool, reference column of each canvas column)."""
    plan, rows = canvas.plan, canvas.rows
    views_on = [[i for i in range(len(plan)) if c in plan.indices(i).tolist()] for c in range(plan.length)]
    places, column = torch.zeros(rows, plan.length, dtype=torch.bool), torch.zeros(plan.length, dtype=torch.int64)
    for i in range(len(plan)):
        middle = [(p, c) for p, c in enumerate(plan.indices(i).tolist()) if views_on[c] == [i]]
        v = eq9(rows if guide.axis == "rows" else len(middle), guide.interval)
        for m, (p, c) in enumerate(middle):
            column[c] = p
            for r in range(rows):
                places[r, c] = bool(v[r] if guide.axis == "rows" else v[m])
    return places, column


def apart(state, canvas, guide):
    """Largest difference between guided places of the canvas and the reference's, in an extended state."""
    places, column = guided_places(canvas, guide)
    whole, reference = state[..., : canvas.plan.length], state[..., canvas.plan.length :]
    return float((whole - reference[..., column]).abs()[..., places].max())


class Recorder:
    """What a sampler hands to the guided model and gets back, and when it calls back, seen from outside the patch.

    model: a MODEL before the patch; `recorder.model` is the one to patch. `events` holds ("call", sigma, x, out) and
    ("step", number, denoised, x, total) in order.
    """

    def __init__(self, model):
        self.events, self.model = [], model.clone()
        self.model.add_wrapper_with_key("predict_noise", "recorder", self._call)
        self.model.add_wrapper_with_key("sampler_sample", "recorder", self._sample)

    def _call(self, executor, x, sigma, *args):
        seen = x.clone()
        out = executor(x, sigma, *args)
        self.events.append(("call", float(sigma.flatten()[0]), seen, out.clone()))
        return out

    def _sample(self, executor, guider, sigmas, extra_args, callback, *args):
        def step(number, denoised, x, total):
            self.events.append(("step", number, denoised.clone(), x.clone(), total))
            if callback is not None:
                callback(number, denoised, x, total)

        return executor(guider, sigmas, extra_args, step, *args)

    @property
    def calls(self):
        return [event[1:] for event in self.events if event[0] == "call"]

    @property
    def steps(self):
        return [event[1:] for event in self.events if event[0] == "step"]

    def first_calls(self):
        """Index of each step's first call: the one before its callback."""
        calls, first = 0, []
        for event in self.events:
            if event[0] == "call":
                calls += 1
            else:
                first.append(calls - 1)
        return first
