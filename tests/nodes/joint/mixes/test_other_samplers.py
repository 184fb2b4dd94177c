"""Samplers of other packs, with a state of their own."""

import pytest
import torch

import comfy.samplers

from safa_pack.tests.nodes.harness import canvas_of, cfg_guider, custom, empty, guide_of, patched
from safa_pack.tests.tiny_models import toy

pytestmark = pytest.mark.host

CANVAS = canvas_of(28, 12, rows=4)


def pulled_to(picture):
    """A sampler that draws every prediction to a picture of the canvas's size."""

    def sample_pulled(model, x, sigmas, extra_args=None, callback=None, disable=None):
        for i, sigma in enumerate(sigmas[:-1]):
            denoised = 0.5 * model(x, sigma.expand(len(x)), **extra_args) + 0.5 * picture
            x = denoised + (x - denoised) * sigmas[i + 1] / sigma
            callback({"i": i, "x": x, "denoised": denoised, "sigma": sigma})
        return x

    return comfy.samplers.KSAMPLER(sample_pulled)


def test_a_sampler_that_holds_a_picture_of_the_canvas_runs_without_a_reference_and_is_named_with_one():
    sampler = pulled_to(torch.ones(1, *CANVAS.shape))
    out, _ = custom(cfg_guider(patched(toy(), CANVAS)), empty(CANVAS), sampler)
    assert out.shape == (1, *CANVAS.shape) and torch.isfinite(out).all()
    with pytest.raises(ValueError, match=r"^SaFa Model Patch: at step 1 the sampler .*sample_pulled failed"):
        custom(cfg_guider(patched(toy(), CANVAS, guide=guide_of())), empty(CANVAS), sampler)


def begun_with_bare_noise(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """Notes what the network sees of the first call."""
    callback({"i": 0, "x": x, "denoised": x, "sigma": sigmas[0]})
    return model(x, sigmas[0].expand(len(x)), **extra_args)


class Bare(comfy.samplers.KSAMPLER):
    """The noise as it comes, not scaled (the host's VOID sampler begins so)."""

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, *args):
        return model_wrap(noise, sigmas[:1].expand(len(noise)), **extra_args)


def test_a_sampler_that_begins_with_bare_noise_gets_the_canvas_as_it_was():
    sampler = Bare(begun_with_bare_noise)
    seen = []
    model = toy()
    model.set_model_unet_function_wrapper(
        lambda apply, args: seen.append(args["input"].clone()) or apply(args["input"], args["timestep"], **args["c"])
    )
    for guide in (None, guide_of(0.4)):
        custom(cfg_guider(patched(model, CANVAS, guide=guide)), empty(CANVAS), sampler)
    views = len(CANVAS.plan)
    assert torch.equal(seen[0][:views], seen[1][:views])
