"""Files in the formats people download, small enough for a test, for the host's own loader nodes.

The diffusion models are those of `tiny_models`. The host fixes the size of the
rest: CLIP-L (246 MB) and the VAE encoder (68 MB), T5 base and Oobleck; the VAE decoder is slim. All
weights are seeded; files are float16 as usual, and safetensors.
"""

import json
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import torch

import comfy.clip_model
import comfy.ldm.audio.autoencoder
import comfy.ldm.models.autoencoder
import comfy.ops
import comfy.sd1_clip
import comfy.text_encoders.sa_t5
import comfy.text_encoders.t5

from . import tiny_models

VAE_ENCODER = {
    "double_z": True,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
VAE_DECODER = VAE_ENCODER | {"ch": 32}  # one channel per group of its GroupNorms: the least there is


def sd15_checkpoint(path):
    """SD1.5 in one file: UNet, VAE, CLIP-L; for CheckpointLoaderSimple."""
    unet = tiny_models.unet_state_dict(tiny_models.SD15_UNET, seed=15)
    return save(
        path,
        prefixed("model.diffusion_model.", unet)
        | prefixed("first_stage_model.", _vae(4))
        | prefixed("cond_stage_model.transformer.", _clip_l()),
    )


def sd35_checkpoint(path):
    """SD3.5 in one file: MMDiT, 16-channel VAE, and of its text encoders CLIP-L; for CheckpointLoaderSimple."""
    return save(
        path,
        prefixed("model.diffusion_model.", tiny_models.sd3_state_dict())
        | prefixed("first_stage_model.", _vae(16))
        | prefixed("text_encoders.clip_l.transformer.", _clip_l()),
    )


def sd15_controlnet(path):
    """A ControlNet for `sd15_checkpoint`; for ControlNetLoader."""
    return save(path, tiny_models.controlnet_state_dict())


def sd15_lora(path):
    """A LoRA for `sd15_checkpoint`; for LoraLoader and LoraLoaderModelOnly."""
    return save(path, tiny_models.lora_sd15())


def sd_vae(path, channels=4):
    """The VAE of `sd15_checkpoint` (4 channels) or `sd35_checkpoint` (16) alone; for VAELoader."""
    return save(path, _vae(channels))


def clip_l(path):
    """CLIP-L alone; for CLIPLoader."""
    return save(path, _clip_l())


@lru_cache
def _vae(channels):
    encoder = VAE_ENCODER | {"z_channels": channels}
    decoder = VAE_DECODER | {"z_channels": channels}
    if channels == 4:
        vae = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=encoder, decoder_ddconfig=decoder, embed_dim=4)
    else:  # from SD3 on there are no 1x1 convolutions around the latent
        host = "comfy.ldm.modules.diffusionmodules.model"
        vae = comfy.ldm.models.autoencoder.AutoencodingEngine(
            regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
            encoder_config={"target": f"{host}.Encoder", "params": encoder},
            decoder_config={"target": f"{host}.Decoder", "params": decoder},
        )
    return _half(tiny_models.randomise(vae, seed=90 + channels).state_dict())


@lru_cache
def _clip_l():
    config = json.loads(Path(comfy.sd1_clip.__file__).with_name("sd1_clip_config.json").read_text())
    clip = comfy.clip_model.CLIPTextModel(config, torch.float32, "cpu", comfy.ops.disable_weight_init)
    weights = tiny_models.randomise(clip, seed=91).state_dict()
    weights.pop("text_projection.weight")  # not in these files
    return _half(weights)


def stable_audio_checkpoint(path):
    """Stable Audio Open in one file: DiT and seconds embedders tiny, Oobleck VAE (312 MB) of the only size there is."""
    with torch.device("meta"):
        vae = comfy.ldm.audio.autoencoder.AudioOobleckVAE()
    generator = torch.Generator().manual_seed(94)
    weights = {
        name: torch.ones(value.shape)  # the length of a normalised weight
        if name.endswith("original0")
        else torch.randn(value.shape, generator=generator) * 0.02
        for name, value in vae.state_dict().items()
    }
    return save(path, tiny_models.stable_audio_state_dict() | prefixed("pretransform.model.", weights))


def t5_base(path):
    """T5 base alone (219 MB), the text encoder of Stable Audio Open; for CLIPLoader."""
    config = json.loads(Path(comfy.text_encoders.sa_t5.__file__).with_name("t5_config_base.json").read_text())
    t5 = comfy.text_encoders.t5.T5(config, torch.float32, "cpu", comfy.ops.disable_weight_init)
    return save(path, tiny_models.randomise(t5, seed=95).state_dict())


def _half(state_dict):
    return {name: value.half().contiguous() for name, value in state_dict.items()}


def prefixed(prefix, state_dict):
    return {prefix + name: value for name, value in state_dict.items()}


def save(path, state_dict):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(_half(state_dict), path)
    return path
