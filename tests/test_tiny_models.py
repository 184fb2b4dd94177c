"""The tiny models sample in the host, and their outputs depend on all that the pack has to get right.

LoRA, size embedding and files of checkpoints are looked at where they are used.
"""

import pytest
import torch

import comfy.controlnet
import comfy.model_base
import comfy.sample
import comfy.sd
import comfy.utils

from safa_pack.tests import tiny_models

pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def inference_mode():
    """As in the host's own executor."""
    with torch.inference_mode():
        yield


def sample(model, kind, noise=None, positive=None, **values):
    """Two Euler steps of the host's KSampler at CFG 3; latents of the family's small shape."""
    shape = tiny_models.LATENT_SHAPES[kind]
    if noise is None:
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    positive = positive or tiny_models.conditioning(kind, seed=1, **values)
    negative = tiny_models.conditioning(kind, seed=2, **values)
    latent = torch.zeros_like(noise)
    return comfy.sample.sample(model, noise, 2, 3.0, "euler", "normal", positive, negative, latent, seed=0)


def change(a, b):
    """Relative distance of two results."""
    return ((a - b).norm() / a.norm()).item()


@pytest.mark.parametrize("kind", tiny_models.MODELS)
def test_samples_and_depends_on_prompt_and_noise(kind):
    model = tiny_models.MODELS[kind]()
    result = sample(model, kind)
    assert result.shape == tiny_models.LATENT_SHAPES[kind]
    assert result.isfinite().all() and result.std() > 0.1
    assert torch.equal(result, sample(model, kind))
    assert change(result, sample(model, kind, positive=tiny_models.conditioning(kind, seed=3))) > 0.05
    noise = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
    assert change(result, sample(model, kind, noise=noise)) > 0.2


@pytest.mark.parametrize("kind", ["sd15", "sd20", "sdxl", "sd3", "toy"])
def test_depends_on_position(kind):
    model = tiny_models.MODELS[kind]()
    noise = torch.randn(tiny_models.LATENT_SHAPES[kind], generator=torch.Generator().manual_seed(0))
    rolled = sample(model, kind, noise=noise.roll(4, -1)).roll(-4, -1)
    assert change(sample(model, kind, noise=noise), rolled) > 0.01


@pytest.mark.parametrize("kind", ["sd15", "sd20"])
def test_v_prediction(kind):
    make = tiny_models.MODELS[kind]
    v, eps = make(prediction="v"), make(prediction="eps")
    assert "V_PREDICTION" in str(type(v.get_model_object("model_sampling")).__mro__)
    assert change(sample(eps, kind), sample(v, kind)) > 0.1


def test_stable_audio_depends_on_seconds():
    model = tiny_models.stable_audio()
    short, long = (sample(model, "stable_audio", seconds_total=seconds) for seconds in (2, 8))
    assert change(short, long) > 0.01


def test_inpainting_model_reads_its_extra_channels():
    model = tiny_models.sd15_inpaint()
    image = torch.randn(tiny_models.LATENT_SHAPES["sd15_inpaint"])
    masked = {"concat_latent_image": image, "concat_mask": torch.ones(1, 1, 8, 12)}
    assert change(sample(model, "sd15_inpaint"), sample(model, "sd15_inpaint", **masked)) > 0.01


def control_residuals(hint):
    """What the ControlNet adds to the UNet's blocks for one latent and `hint` [B, 3, H, W]."""
    control = tiny_models.controlnet_sd15().set_cond_hint(hint)
    model = tiny_models.sd15()
    control.pre_run(model.model, model.get_model_object("model_sampling").percent_to_sigma)
    context = tiny_models.conditioning("sd15", seed=1)[0][0]
    x = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    return control.get_control(x, torch.ones(1), {"c_crossattn": context}, 1, {})


def test_controlnet_follows_its_hint_locally():
    hint = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    other = hint.clone()
    other[..., :24] = 0
    first, second = (control_residuals(image)["output"][0] for image in (hint, other))
    assert change(first[..., :3], second[..., :3]) > 0.05
    assert torch.equal(first[..., 6:], second[..., 6:])


@pytest.mark.parametrize("flow, dims", [(False, 1), (True, 2), (False, 3)])
def test_toy_takes_any_latent(flow, dims):
    model = tiny_models.toy(flow=flow, channels=6, dims=dims)
    noise = torch.randn(2, 6, *[5] * (dims - 1), 24)
    assert sample(model, "toy", noise=noise).isfinite().all()
    expected = comfy.model_base.ModelType.FLOW if flow else comfy.model_base.ModelType.EPS
    assert model.model.model_type == expected


def test_toy_does_not_change_with_its_batch():
    denoiser = tiny_models.toy().model.diffusion_model
    x, context = torch.randn(7, 4, 5, 33), torch.randn(7, 77, 8)
    t = torch.rand(7) * 1000
    together = denoiser(x, t, context=context)
    for i in range(7):
        assert torch.equal(denoiser(x[i : i + 1], t[i : i + 1], context=context[i : i + 1]), together[i : i + 1])
