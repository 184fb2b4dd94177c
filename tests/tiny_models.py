"""Tiny models of the families the pack supports: the host's own classes, seeded random weights.

Everything but ACE-Step (1.0, 1.5) and the toy goes through the host's detection and loader,
so what detection fixes (320 channels for SD, 64 per layer for SD3) is as in the
real thing, and what it reads from the weights is as small as it lets us. All
weights are random, also the output layers that training starts at zero:
predictions are O(1) and depend on x, position, timestep, prompt and size.
"""

from functools import lru_cache, wraps

import torch

import comfy.cldm.cldm
import comfy.controlnet
import comfy.latent_formats
import comfy.ldm.audio.dit
import comfy.ldm.audio.embedders
import comfy.ldm.flux.model
import comfy.ldm.modules.diffusionmodules.mmdit
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.ldm.wan.model
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

# (context width, pooled width or None) of each family's text conditioning.
CONDITIONING_WIDTHS = {
    "sd15": (768, 768),
    "sd15_inpaint": (768, 768),
    "sd20": (1024, 1024),
    "sdxl": (2048, 1280),
    "sd3": (4096, 2048),
    "flux_like": (4096, 768),
    "stable_audio": (768, None),
    "ace_step": (768, None),
    "ace_step15": (32, None),
    "wan21": (4096, None),
    "toy": (8, None),
}

# A small latent of the family's own layout; the long axis is the last one.
LATENT_SHAPES = {
    "sd15": (1, 4, 8, 12),
    "sd15_inpaint": (1, 4, 8, 12),
    "sd20": (1, 4, 8, 12),
    "sdxl": (1, 4, 8, 12),
    "sd3": (1, 16, 8, 12),
    "flux_like": (1, 16, 8, 12),
    "stable_audio": (1, 64, 24),
    "ace_step": (1, 8, 16, 24),
    "ace_step15": (1, 64, 24),
    "wan21": (1, 16, 2, 8, 12),
    "toy": (1, 4, 8, 12),
}


def built_once(build):
    """A builder's results, kept; of ordinary tensors even where a test runs in inference mode: gradients go through."""

    @lru_cache
    @wraps(build)
    def kept(*args, **options):
        with torch.inference_mode(False):
            return build(*args, **options)

    return kept


@torch.no_grad()
def randomise(module, seed, scale=1.0):
    """Fills every parameter of `module`: matrices with std scale/sqrt(fan in), tables with scale/2."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(_scaled(layer, name, noise, scale))
    return module


def _scaled(layer, name, noise, scale):
    matrix = isinstance(layer, (torch.nn.Linear, torch.nn.modules.conv._ConvNd))
    if matrix and name == "weight":
        return noise * (scale / noise[0].numel() ** 0.5)
    if noise.ndim == 1 and name in ("weight", "gamma", "scale"):
        return 1 + 0.1 * noise
    if name in ("bias", "beta"):
        return 0.1 * noise
    return 0.5 * scale * noise


def build(cls, config, seed, scale=1.0):
    """An instance of a host network with random float32 weights, outside any loader."""
    module = cls(**config, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
    return randomise(module, seed, scale)


def _load(state_dict):
    return comfy.sd.load_diffusion_model_state_dict(state_dict, {"dtype": torch.float32})


# ---- Stable Diffusion 1.5, 2.0 and SDXL ----

SD_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [0, 1],
    "transformer_depth_middle": -1,
    "transformer_depth_output": [0, 0, 0, 0],
}
SD15_UNET = SD_UNET | {"context_dim": 768, "num_heads": 8}
SD20_UNET = SD_UNET | {"context_dim": 1024, "num_head_channels": 64, "use_linear_in_transformer": True}
# The depths of KOALA 700M, the smallest that the host knows as SDXL.
SDXL_UNET = SD_UNET | {
    "context_dim": 2048,
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 1, 1],
    "transformer_depth": [0, 2, 5],
    "transformer_depth_output": [0] * 6,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}


def unet_state_dict(config, seed):
    """Weights of a slim UNet, without prefix."""
    unet = comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel
    return build(unet, config, seed).state_dict()


def _as_v_prediction(patcher):
    return ModelSamplingDiscrete().patch(patcher, "v_prediction", False)[0]


@built_once
def _sd15():
    return _load(unet_state_dict(SD15_UNET, seed=15))


def sd15(prediction="eps"):
    """SD1.5 of two levels, attention on the lower one. Latents [B, 4, H, W]; `prediction` eps or v."""
    return _as_v_prediction(_sd15()) if prediction == "v" else _sd15().clone()


@built_once
def _sd15_inpaint():
    return _load(unet_state_dict(SD15_UNET | {"in_channels": 9}, seed=16))


def sd15_inpaint():
    """SD1.5 that also reads mask and masked image (5 channels) from the conditioning."""
    return _sd15_inpaint().clone()


@built_once
def _sd20():
    return _load(unet_state_dict(SD20_UNET, seed=20))


def sd20(prediction="v"):
    """SD2.x. Latents [B, 4, H, W]; `prediction` eps or v."""
    return _as_v_prediction(_sd20()) if prediction == "v" else _sd20().clone()


@built_once
def _sdxl(prediction):
    state_dict = unet_state_dict(SDXL_UNET, seed=30)
    if prediction == "v":
        state_dict["v_pred"] = torch.tensor([])
    return _load(state_dict)


def sdxl(prediction="eps"):
    """SDXL, with its size embedding `y`. Latents [B, 4, H, W]; `prediction` eps or v."""
    return _sdxl(prediction).clone()


# ---- Transformers ----

SD3_PATCHES = 256  # per axis of the position table: pictures up to 4096 pixels wide
SD3_MMDIT = {
    "input_size": None,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 2,
    "adm_in_channels": 2048,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 128},
    },
    "num_patches": SD3_PATCHES**2,
    "pos_embed_max_size": SD3_PATCHES,
    "qk_norm": "rms",
    "x_block_self_attn_layers": [0],
}


def sd3_state_dict(seed=35):
    """Weights of an SD3.5-medium-like MMDiT of two layers, without prefix."""
    mmdit = comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper
    state_dict = build(mmdit, SD3_MMDIT, seed).state_dict()
    positions = state_dict["pos_embed"]  # a buffer, which the host leaves uninitialised
    positions.copy_(0.5 * torch.randn(positions.shape, generator=torch.Generator().manual_seed(seed)))
    return state_dict


@built_once
def _sd3():
    return _load(sd3_state_dict())


def sd3():
    """SD3.5, flow. Latents [B, 16, H, W]."""
    return _sd3().clone()


FLUX = {  # of one block of each kind
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 128,
    "num_heads": 1,
    "mlp_ratio": 4.0,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}


@built_once
def _flux_like():
    return _load(build(comfy.ldm.flux.model.Flux, FLUX, seed=40).state_dict())


def flux_like():
    """Flux of one double and one single block, guidance-distilled. Latents [B, 16, H, W]."""
    return _flux_like().clone()


@built_once
def _wan21():
    config = {"model_type": "t2v", "dim": 128, "ffn_dim": 128, "num_heads": 1, "num_layers": 1}
    return _load(build(comfy.ldm.wan.model.WanModel, config, seed=50).state_dict())


def wan21():
    """Wan 2.1 text to video, flow. Latents [B, 16, T, H, W]."""
    return _wan21().clone()


# ---- Audio ----


def stable_audio_state_dict():
    """Weights of a tiny Stable Audio 1.0 under the names of its checkpoint, without VAE and text encoder."""
    config = {
        "embed_dim": 64,
        "depth": 2,
        "num_heads": 1,
        "project_cond_tokens": True,
        "attn_kwargs": {"qk_norm": "rms", "differential": False},
        "norm_type": "rms_norm",
    }
    network = build(comfy.ldm.audio.dit.AudioDiffusionTransformer, config, seed=60)
    # a buffer, which the host leaves uninitialised: a checkpoint brings it
    frequencies = network.transformer.rotary_pos_emb.inv_freq
    frequencies.copy_(10000 ** -torch.linspace(0, 1, len(frequencies) + 1)[:-1])
    state_dict = {f"model.model.{name}": value for name, value in network.state_dict().items()}
    for seed, name in enumerate(("seconds_start", "seconds_total")):
        # Of 512 s the embedding tells clips of a few seconds apart only if its frequencies are high.
        embedder = randomise(comfy.ldm.audio.embedders.NumberConditioner(768), seed, scale=8)
        for key, value in embedder.state_dict().items():
            state_dict[f"conditioner.conditioners.{name}.{key}"] = value
    return state_dict


@built_once
def _stable_audio():
    options = {"dtype": torch.float32}
    return comfy.sd.load_state_dict_guess_config(
        stable_audio_state_dict(), output_vae=False, output_clip=False, model_options=options
    )[0]


def stable_audio():
    """Stable Audio 1.0, continuous v, with its seconds embeddings. Latents [B, 64, T]."""
    return _stable_audio().clone()


@built_once
def _ace_step():
    # Detection fixes 3.3 B parameters, so this one is built around the loader.
    config = comfy.supported_models.ACEStep(
        {"audio_model": "ace", "num_layers": 2, "inner_dim": 128, "attention_head_dim": 32, "num_attention_heads": 4}
    )
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    randomise(model.diffusion_model, seed=70)
    return patcher(model)


def ace_step():
    """ACE-Step 1.0, flow; takes seconds to build. Latents [B, 8, 16, T]."""
    return _ace_step().clone()


@built_once
def _ace_step15():
    sizes = {
        "hidden_size": 64,
        "text_hidden_dim": 32,
        "num_dit_layers": 2,
        "num_lyric_layers": 1,
        "num_timbre_layers": 1,
        "num_tokenizer_layers": 1,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        "intermediate_size": 64,
        "fsq_dim": 64,
        "encoder_hidden_size": 64,
        "encoder_intermediate_size": 64,
        "encoder_num_heads": 4,
    }
    config = comfy.supported_models.ACEStep15({"audio_model": "ace1.5", **sizes})
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    randomise(model.diffusion_model, seed=75)
    return patcher(model)


def ace_step15():
    """ACE-Step 1.5, flow, with audio codes and reference audio. Latents [B, 64, T]."""
    return _ace_step15().clone()


def patcher(model):
    """The host's ModelPatcher of a model."""
    device = comfy.model_management.get_torch_device()
    offload = comfy.model_management.unet_offload_device()
    return comfy.model_patcher.CoreModelPatcher(model.to(offload), load_device=device, offload_device=offload)


# ---- The toy ----


class ToyDenoiser(torch.nn.Module):
    """tanh of x blurred by five taps along each axis, shifted by timestep and mean of the context.

    Elementwise arithmetic only: a batch or a wider canvas changes no bit of a
    result that sees the same neighbours.
    """

    def __init__(self, channels):
        super().__init__()
        generator = torch.Generator().manual_seed(80)
        self.register_buffer("taps", 0.45 * torch.randn(channels, 5, generator=generator))
        self.register_buffer("words", torch.randn(8, channels, generator=generator, dtype=torch.float64))

    @property
    def dtype(self):
        return self.taps.dtype

    def blur(self, x, axis):
        """`x` [B, C, …] correlated with each channel's taps along `axis`, zeros outside."""
        pad = [0, 0] * (x.ndim - 1 - axis) + [2, 2]
        padded = torch.nn.functional.pad(x, pad)
        taps = self.taps.to(x).reshape(-1, 5, *[1] * (x.ndim - 2))
        return sum(taps[:, k] * padded.narrow(axis, k, x.shape[axis]) for k in range(5))

    def forward(self, x, t, context=None, control=None, transformer_options=None, **kwargs):
        """Prediction [B, C, …] for `x` [B, C, …], `t` [B] in 0…1000, `context` [B, T, 8]."""
        mixed = x
        for axis in range(2, x.ndim):
            mixed = self.blur(mixed, axis)
        # The context is reduced in float64: after rounding, the order of summation is gone.
        shift = (context.double().mean(dim=1) @ self.words.to(x.device)).to(x)
        shift = (shift + (t / 100).sin()[:, None].to(x)).reshape(*shift.shape, *[1] * (x.ndim - 2))
        return 0.8 * x + 0.4 * torch.tanh(mixed + 0.3 * x.roll(1, dims=1) + shift)


class _Toy(comfy.supported_models_base.BASE):
    unet_config = {"disable_unet_model_creation": True}
    unet_extra_config = {}
    memory_usage_factor = 0.01


@built_once
def _toy(flow, channels, dims):
    config = _Toy(_Toy.unet_config)
    config.latent_format.latent_channels = channels
    config.latent_format.latent_dimensions = dims
    kind = comfy.model_base.ModelType.FLOW if flow else comfy.model_base.ModelType.EPS
    model = comfy.model_base.BaseModel(config, kind)
    model.diffusion_model = ToyDenoiser(channels).eval()
    comfy.model_management.archive_model_dtypes(model.diffusion_model)
    return patcher(model)


def toy(flow=False, channels=4, dims=2):
    """A denoiser in closed form, well below a millisecond per forward, for latents [B, C, `dims` axes]."""
    return _toy(flow, channels, dims).clone()


MODELS = {
    "sd15": sd15,
    "sd15_inpaint": sd15_inpaint,
    "sd20": sd20,
    "sdxl": sdxl,
    "sd3": sd3,
    "flux_like": flux_like,
    "stable_audio": stable_audio,
    "ace_step": ace_step,
    "ace_step15": ace_step15,
    "wan21": wan21,
    "toy": toy,
}


# ---- What goes with a model ----


def conditioning(model_kind, seed, tokens=77, **values):
    """A host CONDITIONING of one entry: cross attention [1, tokens, width], and pooled where there is one.

    `values` go into the entry's dictionary, such as width= and height= for SDXL.
    """
    width, pooled = CONDITIONING_WIDTHS[model_kind]
    generator = torch.Generator().manual_seed(seed)
    # Tokens share a direction: averaged over 77 independent ones, prompts would all look alike.
    shared = torch.randn(1, 1, width, generator=generator)
    cross_attn = shared + 0.5 * torch.randn(1, tokens, width, generator=generator)
    entry = {}
    if pooled is not None:
        entry["pooled_output"] = torch.randn(1, pooled, generator=generator)
    if model_kind == "ace_step":
        entry["conditioning_lyrics"] = torch.randint(1, 6000, (1, 16), generator=generator)
    if model_kind == "ace_step15":
        entry["conditioning_lyrics"] = torch.randn(1, 16, width, generator=generator)
    return [[cross_attn, entry | values]]


def controlnet_state_dict(seed=17):
    """Weights of a ControlNet that fits `sd15`, in the original (cldm) layout."""
    config = {key: value for key, value in SD15_UNET.items() if key != "out_channels"}
    network = build(comfy.cldm.cldm.ControlNet, config | {"hint_channels": 3}, seed)
    randomise(network.input_hint_block, seed, scale=1.6)  # its seven SiLUs would swallow the hint
    return network.state_dict()


@built_once
def _controlnet_sd15():
    return comfy.controlnet.load_controlnet_state_dict(controlnet_state_dict())


def controlnet_sd15():
    """A ControlNet for `sd15` whose zero convolutions are not zero."""
    return _controlnet_sd15().copy()


def lora_sd15(seed=18, rank=4):
    """A LoRA state dict for `sd15`: every matrix of its transformer, in kohya's names."""
    generator = torch.Generator().manual_seed(seed)
    names = comfy.utils.unet_to_diffusers(SD15_UNET | {"transformer_depth_output": [0] * 4})
    weights = _sd15().model.diffusion_model.state_dict()
    lora = {}
    for diffusers_name, name in names.items():
        if "transformer_blocks" not in name or weights[name].ndim != 2:
            continue
        rows, columns = weights[name].shape
        key = "lora_unet_" + diffusers_name.removesuffix(".weight").replace(".", "_")
        lora[f"{key}.lora_down.weight"] = torch.randn(rank, columns, generator=generator) / columns**0.5
        lora[f"{key}.lora_up.weight"] = torch.randn(rows, rank, generator=generator) / rank**0.5
        lora[f"{key}.alpha"] = torch.tensor(float(rank))
    return lora
