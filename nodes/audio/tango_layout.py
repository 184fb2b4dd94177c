"""Tango and Tango 2 in their own layout, into the classes that the diffusers layout names.

{vae,stft,main}_config.json and pytorch_model_{vae,main}.bin: "vae" is an LDM autoencoder with a HiFi-GAN inside,
"main" a UNet (`unet.`) and Flan-T5 (`text_encoder.`). pytorch_model_stft.bin holds only filters that follow from
stft_config.json. Tokenizer, UNet configuration and scheduler are named, not included; they are published facts.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from transformers import AutoTokenizer, SpeechT5HifiGan, SpeechT5HifiGanConfig, T5Config, T5EncoderModel

import comfy.text_encoders.sd3_clip

from .diffusers_layout import LIBRARY_ERRORS, AudioParts, Mel, first_line, tokenizer_of
from .folder import TANGO, WHO, read_json, tensors_of
from .text import T5Text, TextTokenizer
from .unet import PromptUNet

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
UPSAMPLING = [5, 4, 2, 2, 2]  # HIFIGAN_16K_64 of AudioLDM, whose other sizes the weights tell


def tango_parts(folder: Path) -> AudioParts:
    """Load a Tango folder; refuses what is missing, broken or unknown (ValueError)."""
    main, stft = read_json(folder / TANGO), read_json(folder / "stft_config.json")
    vae_config = read_json(folder / "vae_config.json")
    if main.get("unet_model_name") or "t5" not in str(main.get("text_encoder_name")):
        raise ValueError(f"{WHO}: {folder.name} is a Tango with another UNet or text encoder than Flan-T5's.")
    scheduler = _scheduler(folder, main)
    vae_weights = tensors_of(folder / "pytorch_model_vae.bin")
    main_weights = tensors_of(folder / "pytorch_model_main.bin")
    try:
        vae = _vae(vae_config, _below(vae_weights, ""))
        vocoder = _vocoder(_below(vae_weights, "vocoder."), stft)
        unet = _unet(_unet_config(folder, main), _below(main_weights, "unet."))
        t5 = _t5(_below(main_weights, "text_encoder."))
    except (*LIBRARY_ERRORS, StopIteration) as error:
        raise ValueError(f"{WHO}: the weights of {folder.name} are not Tango's ({first_line(error)}).") from error
    tokenizer = TextTokenizer(t5=_tokenizer(folder))
    return AudioParts(folder.name, unet, T5Text(t5), tokenizer, vae, vocoder, scheduler, _mel(stft))


def _below(weights: dict, prefix: str) -> dict:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _filled(build, weights: dict, may_miss=()) -> torch.nn.Module:
    """A module built without memory, then given the file's own tensors; every name must fit."""
    with torch.device("meta"):
        module = build()
    missing, unexpected = module.load_state_dict(weights, strict=False, assign=True)
    missing = [key for key in missing if key not in may_miss]
    if missing or unexpected:
        raise ValueError(f"{len(missing)} missing and {len(unexpected)} unknown weights: {(missing + unexpected)[0]}")
    return module.float().eval().requires_grad_(False)


def _unet_config(folder: Path, main: dict) -> dict:
    """The configuration that main_config.json names, where somebody put it into the folder, else the published one."""
    name = Path(str(main["unet_model_config_path"])).name
    for file in (folder / name, folder / "configs" / name):
        if file.is_file():
            return read_json(file)
    return UNET


def _unet(config: dict, weights: dict) -> PromptUNet:
    width = next(v.shape[1] for k, v in weights.items() if k.endswith("attn2.to_k.weight"))
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    return _filled(lambda: PromptUNet.from_config({**config, "cross_attention_dim": width}), weights)


def _t5(weights: dict) -> T5EncoderModel:
    """Flan-T5's encoder; its sizes follow from the weights."""
    block = "encoder.block.{}.layer.{}."
    first, gate = block.format(0, 1) + "DenseReluDense.", block.format(0, 1) + "DenseReluDense.wi_0.weight"
    buckets, heads = weights[block.format(0, 0) + "SelfAttention.relative_attention_bias.weight"].shape
    vocabulary, width = weights["shared.weight"].shape
    inner = weights[block.format(0, 0) + "SelfAttention.q.weight"].shape[0]
    config = T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=inner // heads,
        d_ff=weights[first + "wo.weight"].shape[1],
        num_layers=len({key.split(".")[2] for key in weights if key.startswith("encoder.block.")}),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu" if gate in weights else "relu",
    )
    weights = {**weights, "encoder.embed_tokens.weight": weights["shared.weight"]}
    return _filled(lambda: T5EncoderModel(config), weights)


def _vae(config: dict, weights: dict) -> AutoencoderKL:
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
    return _filled(lambda: AutoencoderKL.from_config(library), convert_ldm_vae_checkpoint(weights, library))


def _vocoder(weights: dict, stft: dict) -> SpeechT5HifiGan:
    """AudioLDM's HiFi-GAN; transformers calls `ups` `upsampler`."""
    renamed = {("upsampler." + k.removeprefix("ups.") if k.startswith("ups.") else k): v for k, v in weights.items()}
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
    return _filled(lambda: SpeechT5HifiGan(config), {**zeros, **renamed})


def _scheduler(folder: Path, main: dict) -> dict:
    own = folder / "scheduler" / "scheduler_config.json"
    if own.is_file():
        return read_json(own)
    name = str(main.get("scheduler_name"))
    if name not in SCHEDULERS:
        raise ValueError(
            f"{WHO}: {folder.name} uses the scheduler of {name!r}, which is not known; put its scheduler_config.json "
            f"into {folder.name}/scheduler."
        )
    return SCHEDULERS[name]


def _tokenizer(folder: Path):
    if (folder / "tokenizer").is_dir():
        return tokenizer_of(folder, "tokenizer")
    host = Path(comfy.text_encoders.sd3_clip.__file__).parent / "t5_tokenizer"  # the vocabulary of every T5
    return AutoTokenizer.from_pretrained(host, local_files_only=True)


def _mel(stft: dict) -> Mel:
    return Mel(
        sampling_rate=stft["sampling_rate"],
        hop_length=stft["hop_length"],
        n_fft=stft["filter_length"],
        n_mels=stft["n_mel_channels"],
        fmin=stft["mel_fmin"],
        fmax=stft["mel_fmax"],
    )
