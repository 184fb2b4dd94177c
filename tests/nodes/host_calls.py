"""Joint sampling against separate calls of the host: each view on its own, unpatched model, conds cut by hand."""

import torch

import comfy.sample
import comfy.samplers

from safa_pack.nodes.canvas import Canvas
from safa_pack.nodes.joint.patch import JointPatch
from safa_pack.nodes.joint.reference import REFERENCE_SEED
from safa_pack.safa_core import SwapJoin, plan_views
from safa_pack.tests.nodes.literal import literal_algorithm_1

SEED, CFG, SCHEDULER = 3, 4.0, "simple"


class OneCall(comfy.samplers.Sampler):
    """Calls the guided model once, with all that the host does around a sampling."""

    def __init__(self, x, sigma):
        self.x, self.sigma = x, sigma

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, *args):
        self.denoised = model_wrap(self.x, self.sigma.expand(len(self.x)), **extra_args)
        return self.denoised


def cfg_guider(model, positive, negative, cfg=CFG):
    """The host's guider for a model and two prompts."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def predict(model, x, sigma, sigmas, positive, negative, cfg=CFG, latent=None):
    """The host's denoised for one window at one sigma."""
    return predict_by(cfg_guider(model, positive, negative, cfg), x, sigma, sigmas, latent)


def predict_by(guider, x, sigma, sigmas, latent=None):
    """A guider's denoised for one window at one sigma."""
    call = OneCall(x, sigma)
    guider.sample(torch.zeros_like(x), torch.zeros_like(x) if latent is None else latent, call, sigmas, seed=SEED)
    return call.denoised


def canvas_of(shape, view, overlap=0.25, loop=False, axis=-1, unit="pixels"):
    """A Canvas on latents of `shape` [B, C, ...]."""
    axis %= len(shape)
    return Canvas(plan_views(shape[axis], view, overlap, loop), tuple(shape[1:]), axis, unit, 8)


def crop(tensor, canvas, i, axis):
    """View i of what has the canvas's length along `axis`."""
    return tensor.index_select(axis, canvas.plan.indices(i))


def joint(model, canvas, positive, negative, steps=2, cfg=CFG, guide=None, batch=1, latent=None, patch=None):
    """The patched model through the host's own sampling: the canvas latent."""
    patch = patch or JointPatch(canvas, SwapJoin(), guide, "SaFa Sampler", finish_reference=True)
    latent = torch.zeros(batch, *canvas.shape) if latent is None else latent
    noise = comfy.sample.prepare_noise(latent, SEED)
    return comfy.sample.sample(
        patch.install(model), noise, steps, cfg, "euler", SCHEDULER, positive, negative, latent, seed=SEED
    )


def separate(model, canvas, conds, steps=2, cfg=CFG, guide=None, batch=1, predict=predict):
    """Algorithm 1 with Euler steps; conds(i) gives (positive, negative) of view i (of the reference: its number)."""
    prompts = [conds(i) for i in _windows(canvas, guide)]
    return _separate(model, lambda i, *at: predict(model, *at, *prompts[i], cfg), canvas, steps, guide, batch)


def separate_by(guider_of, canvas, steps=2, guide=None, batch=1):
    """Algorithm 1 with Euler steps; guider_of(i) gives the guider of view i (of the reference: its number)."""
    guiders = [guider_of(i) for i in _windows(canvas, guide)]
    model = guiders[0].model_patcher
    return _separate(model, lambda i, *at: predict_by(guiders[i], *at), canvas, steps, guide, batch)


def _windows(canvas, guide):
    views = len(canvas.plan)
    return range(views if guide is None else views + 1)


def _separate(model, predict_window, canvas, steps, guide, batch):
    """Algorithm 1 with Euler steps; predict_window(i, x, sigma, sigmas) gives the denoised of a window."""
    plan, axis = canvas.plan, canvas.axis
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, SCHEDULER, steps)
    noise = comfy.sample.prepare_noise(torch.zeros(batch, *canvas.shape), SEED)
    most = float(sigmas[0]) >= float(sampling.sigma_max) * (1 - 1e-5)
    start = sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), most)
    reference = None
    if guide is not None:
        own = torch.randn(
            canvas.view_shape(noise.shape), generator=torch.Generator().manual_seed(SEED + REFERENCE_SEED)
        )
        reference = sampling.noise_scaling(sigmas[0], own, torch.zeros_like(own), most).movedim(axis, -1)

    def step(window, k, i):
        x = window.movedim(-1, axis)
        d = (x - predict_window(i, x, sigmas[k], sigmas)) / sigmas[k]
        return (x + d * (sigmas[k + 1] - sigmas[k])).movedim(axis, -1)

    guided = 0 if guide is None else int(guide.rate * steps + 0.5)
    out, _ = literal_algorithm_1(
        step,
        start.movedim(axis, -1),
        reference,
        plan.starts,
        plan.view,
        steps,
        plan.loop,
        1,
        guided,
        1,
        guide is not None and guide.axis != "frames",
    )
    return model.model.process_latent_out(out.movedim(-1, axis))


def difference(a, b):
    """Largest difference relative to the largest value."""
    assert a.shape == b.shape
    assert torch.isfinite(a).all()
    return float((a - b).abs().max() / b.abs().max())


class Forwards:
    """Keeps what a network's forward was called with."""

    def __init__(self, module):
        self.calls = []
        self.handle = module.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module, args, kwargs):
        self.calls.append((args, kwargs))

    def __enter__(self):
        return self.calls

    def __exit__(self, *error):
        self.handle.remove()
