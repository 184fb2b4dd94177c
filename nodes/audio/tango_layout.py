"""Tango and Tango 2 in their own layout, into the classes that the diffusers layout names.

{vae,stft,main}_config.json and pytorch_model_{vae,main}.bin: "vae" is an LDM autoencoder with a HiFi-GAN inside,
"main" a UNet (`unet.`) and Flan-T5 (`text_encoder.`). pytorch_model_stft.bin holds only filters that follow from
stft_config.json. Tokenizer, UNet configuration and scheduler are named, not included; they are published facts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
)

import comfy.text_encoders.sd3_clip

from ...safa_core.errors import shorten
from ...safa_core.loading import LOCAL
from ..errors import LIBRARY_ERRORS
from .folder import TANGO
from .model_folder import ModelFolder
from .parts import AudioParts, Mel
from .text import T5Text, TextTokenizer
from .unet import PromptUNet
from .weights import read_tensors

# configs/diffusion_model_config.json of declare-lab/tango; the XL one differs in cross_attention_dim, read from the
# weights. sample_size there is [32, 2].
UNET = {
    "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "in_channels": 8,
    "out_channels": 8,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "use_linear_projection": True,
    "upcast_attention": True,
}
# scheduler/scheduler_config.json of the models that `scheduler_name` can name
STABLE_DIFFUSION_2 = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULERS = {
    "stabilityai/stable-diffusion-2-1": {**STABLE_DIFFUSION_2, "prediction_type": "v_prediction"},
    "stabilityai/stable-diffusion-2-1-base": {**STABLE_DIFFUSION_2, "prediction_type": "epsilon"},
}
UPSAMPLING = [5, 4, 2, 2, 2]  # HIFIGAN_16K_64 of AudioLDM, whose other sizes follow from the weights


def tango_parts(folder: ModelFolder) -> AudioParts:
    """Load a Tango folder; refuses what is missing, broken or unknown (ValueError)."""
    main = folder.json(TANGO)
    stft = folder.json("stft_config.json")
    vae_config = folder.json("vae_config.json")
    if main.get("unet_model_name") or "t5" not in str(main.get("text_encoder_name")):
        raise ValueError(f"{folder.name} is a Tango with another UNet or text encoder than Flan-T5's.")
    scheduler = _scheduler(folder, main)
    vae_weights = read_tensors(folder.path / "pytorch_model_vae.bin")
    main_weights = read_tensors(folder.path / "pytorch_model_main.bin")
    try:
        vae = _vae(vae_config, vae_weights)
        vocoder = _vocoder(_below(vae_weights, "vocoder."), stft)
        unet = _unet(_unet_config(folder, main), _below(main_weights, "unet."))
        t5 = _t5(_below(main_weights, "text_encoder."))
    except (*LIBRARY_ERRORS, StopIteration) as error:
        raise ValueError(f"the weights of {folder.name} are not Tango's ({shorten(error)}).") from error
    tokenizer = TextTokenizer(t5=_tokenizer(folder))
    return AudioParts(folder.name, unet, T5Text(t5), tokenizer, vae, vocoder, scheduler, _mel(stft))


def _below(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The weights whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _fill(build: Callable[[], torch.nn.Module], weights: dict[str, torch.Tensor]) -> Any:
    """A module built without memory, then given the file's own tensors; every name must fit."""
    with torch.device("meta"):
        module = build()
    missing, unexpected = module.load_state_dict(weights, strict=False, assign=True)
    if missing or unexpected:
        raise ValueError(f"{len(missing)} missing and {len(unexpected)} unknown weights: {(missing + unexpected)[0]}")
    return module.float().eval().requires_grad_(False)


def _unet_config(folder: ModelFolder, main: dict[str, Any]) -> dict[str, Any]:
    """The configuration that main_config.json names, where somebody put it into the folder, else the published one."""
    name = Path(str(main["unet_model_config_path"])).name
    for file in (name, f"configs/{name}"):
        if folder.has(file):
            return folder.json(file)
    return UNET


def _unet(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> PromptUNet:
    width = next(v.shape[1] for k, v in weights.items() if k.endswith("attn2.to_k.weight"))
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    return _fill(lambda: PromptUNet.from_config({**config, "cross_attention_dim": width}), weights)


def _t5(weights: dict[str, torch.Tensor]) -> T5EncoderModel:
    """Flan-T5's encoder; its sizes follow from the weights."""
    attention = "encoder.block.0.layer.0.SelfAttention."
    dense = "encoder.block.0.layer.1.DenseReluDense."
    buckets, heads = weights[attention + "relative_attention_bias.weight"].shape
    vocabulary, width = weights["shared.weight"].shape
    inner = weights[attention + "q.weight"].shape[0]
    config = T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=inner // heads,
        d_ff=weights[dense + "wo.weight"].shape[1],
        num_layers=len({key.split(".")[2] for key in weights if key.startswith("encoder.block.")}),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu" if dense + "wi_0.weight" in weights else "relu",
    )
    weights = {**weights, "encoder.embed_tokens.weight": weights["shared.weight"]}
    return _fill(lambda: T5EncoderModel(config), weights)


def _vae(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> AutoencoderKL:
    sizes = config["ddconfig"]
    if config.get("subband", 1) != 1 or config.get("time_shuffle", 1) != 1 or sizes.get("attn_resolutions"):
        raise ValueError("a VAE with subbands, time shuffling or attention between its blocks is not known")
    levels = len(sizes["ch_mult"])
    library = {
        "in_channels": sizes["in_channels"],
        "out_channels": sizes["out_ch"],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [sizes["ch"] * m for m in sizes["ch_mult"]],
        "layers_per_block": sizes["num_res_blocks"],
        "latent_channels": config["embed_dim"],
        "scaling_factor": config["scale_factor"],
    }
    weights = {key: value for key, value in weights.items() if not key.startswith("vocoder.")}
    return _fill(lambda: AutoencoderKL.from_config(library), convert_ldm_vae_checkpoint(weights, library))


def _vocoder(weights: dict[str, torch.Tensor], stft: dict[str, Any]) -> SpeechT5HifiGan:
    """AudioLDM's HiFi-GAN; transformers calls `ups` `upsampler`."""
    renamed = {re.sub(r"^ups\.", "upsampler.", key): value for key, value in weights.items()}
    channels, bins, _ = renamed["conv_pre.weight"].shape
    config = SpeechT5HifiGanConfig(
        model_in_dim=bins,
        sampling_rate=stft["sampling_rate"],
        upsample_initial_channel=channels,
        upsample_rates=UPSAMPLING,
        upsample_kernel_sizes=[renamed[f"upsampler.{i}.weight"].shape[2] for i in range(len(UPSAMPLING))],
        normalize_before=False,
    )
    zeros = {"mean": torch.zeros(bins), "scale": torch.ones(bins)}
    return _fill(lambda: SpeechT5HifiGan(config), {**zeros, **renamed})


def _scheduler(folder: ModelFolder, main: dict[str, Any]) -> dict[str, Any]:
    """The scheduler's configuration in the folder, else the published one of the name in main_config.json."""
    if folder.has("scheduler/scheduler_config.json"):
        return folder.json("scheduler/scheduler_config.json")
    name = str(main.get("scheduler_name"))
    if name not in SCHEDULERS:
        raise ValueError(
            f"{folder.name} uses the scheduler of {name!r}, which is not known; put its scheduler_config.json "
            f"into {folder.name}/scheduler."
        )
    return SCHEDULERS[name]


def _tokenizer(folder: ModelFolder) -> PreTrainedTokenizerBase:
    if (folder.path / "tokenizer").is_dir():
        return folder.tokenizer("tokenizer")
    host = Path(comfy.text_encoders.sd3_clip.__file__).parent / "t5_tokenizer"  # the vocabulary of every T5
    return AutoTokenizer.from_pretrained(host, **LOCAL)


def _mel(stft: dict[str, Any]) -> Mel:
    return Mel(
        sampling_rate=stft["sampling_rate"],
        hop_length=stft["hop_length"],
        n_fft=stft["filter_length"],
        n_mels=stft["n_mel_channels"],
        fmin=stft["mel_fmin"],
        fmax=stft["mel_fmax"],
    )
