"""Tiny models of the families whose conditions lie on the canvas: the host's own classes, seeded random weights.

Built around the host's loader (configuration class and its `get_model`), so that sizes may be smaller than detection
lets them be. Layers, channels of latents and of conditions are as in the real thing.
"""

import torch

import comfy.conds
import comfy.ldm.audio.embedders
import comfy.supported_models

from safa_pack.tests import tiny_models
from safa_pack.tests.tiny_models import SD_UNET, built_once, patcher, randomise

WIDTH, POOLED = 64, 32  # of texts, and of their pooled vector


def prompt(seed, tokens=16, width=WIDTH, pooled=POOLED, **values):
    """A host CONDITIONING of one entry, with whatever else goes into its dictionary."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(1, 1, width, generator=generator)
    text = shared + 0.5 * torch.randn(1, tokens, width, generator=generator)
    return [[text, {"pooled_output": torch.randn(1, pooled, generator=generator), **values}]]


def make(family, config, seed=5):
    """A ModelPatcher of one of the host's configuration classes."""
    supported = getattr(comfy.supported_models, family)(dict(config))
    supported.set_inference_dtype(torch.float32, None)
    model = supported.get_model({}, "")
    randomise(model.diffusion_model, seed)
    return patcher(model)


WAN = {
    "image_model": "wan2.1",
    "dim": 128,
    "ffn_dim": 128,
    "num_heads": 1,
    "num_layers": 1,
    "text_dim": WIDTH,
    "in_dim": 16,
    "out_dim": 16,
}


@built_once
def _wan(family, model_type, **sizes):
    return make(family, WAN | {"model_type": model_type} | sizes)


def wan():
    """Wan 2.1 text to video."""
    return _wan("WAN21_T2V", "t2v").clone()


def wan_i2v():
    """Wan 2.1 image to video: mask and picture beside the latent (20 channels)."""
    return _wan("WAN21_I2V", "i2v", in_dim=36).clone()


def wan_vace():
    """Wan VACE: control frames (32 channels) and their masks (64)."""
    return _wan("WAN21_Vace", "vace", vace_layers=1, vace_in_dim=96).clone()


def wan_camera():
    """Wan with camera poses in pixels (24 channels), and the picture beside the latent."""
    return _wan("WAN21_Camera", "camera", in_dim=32).clone()


def wan_fun():
    """Wan Fun Control with a reference picture as a latent."""
    return _wan("WAN21_FunControl2V", "t2v", in_dim_ref_conv=16).clone()


def wan_s2v():
    """Wan sound to video: control video, reference and motion of frames before."""
    sizes = {"audio_dim": 32, "num_audio_token": 4, "audio_inject_layers": (0,)}
    return _wan("WAN22_S2V", "s2v", **sizes).clone()


def wan_animate():
    """Wan Animate: poses of the video."""
    return _wan("WAN22_Animate", "animate", in_dim=36).clone()


def wan_scail():
    """SCAIL 2: reference, its mask, and poses and masks at half the size."""
    return _wan("WAN21_SCAIL2", "scail2", in_dim=20).clone()


def wan22():
    """Wan 2.2 5B, which reads what is kept from a mask (48 channels)."""
    return _wan("WAN22_T2V", "t2v", in_dim=48, out_dim=48).clone()


QWEN = {
    "num_layers": 2,
    "num_attention_heads": 1,
    "attention_head_dim": 32,
    "axes_dims_rope": (8, 12, 12),
    "joint_attention_dim": WIDTH,
}


@built_once
def _qwen_image():
    return make("QwenImage", {"image_model": "qwen_image"} | QWEN)


def qwen_image():
    """Qwen-Image and its Edit. Latents [B, 16, 1, H, W]."""
    return _qwen_image().clone()


FLUX = tiny_models.FLUX | {"image_model": "flux", "vec_in_dim": POOLED, "context_in_dim": WIDTH}


@built_once
def _flux(family, channels):
    return make(family, FLUX | {"in_channels": channels})


def flux():
    """Flux and its Kontext. Latents [B, 16, H, W]."""
    return _flux("Flux", 16).clone()


def flux_fill():
    """Flux Fill: picture (16 channels) and mask (64 pixels of a latent) beside the latent."""
    return _flux("FluxInpaint", 96).clone()


@built_once
def _cosmos():
    config = {
        "image_model": "cosmos_predict2",
        "in_channels": 16,
        "out_channels": 16,
        "max_img_h": 240,
        "max_img_w": 240,
        "max_frames": 128,
        "patch_spatial": 2,
        "patch_temporal": 1,
        "model_channels": 64,
        "num_blocks": 1,
        "num_heads": 1,
        "crossattn_emb_channels": WIDTH,
        "concat_padding_mask": True,
        "pos_emb_cls": "rope3d",
        "pos_emb_learnable": True,
        "pos_emb_interpolation": "crop",
        "rope_enable_fps_modulation": False,
    }
    return make("CosmosT2IPredict2", config)


def cosmos():
    """Cosmos Predict2, which reads what is kept from a mask. Latents [B, 16, T, H, W]."""
    return _cosmos().clone()


@built_once
def _pid():
    config = {
        "image_model": "pid",
        "num_groups": 1,
        "hidden_size": 64,
        "pixel_hidden_size": 8,
        "pixel_attn_hidden_size": 32,
        "pixel_num_groups": 1,
        "patch_depth": 2,
        "pixel_depth": 1,
        "patch_size": 16,
        "txt_embed_dim": WIDTH,
        "txt_max_length": 16,
        "lq_latent_channels": 16,
        "lq_hidden_dim": 16,
        "lq_num_res_blocks": 1,
    }
    return make("PiD", config)


def pid():
    """PiD: pixels from a latent of lower quality, 32 times smaller. Latents are pixels, [B, 3, H, W]."""
    return _pid().clone()


@built_once
def _cascade_b():
    sizes = {
        "c_hidden": [16, 16, 32, 32],
        "nhead": [-1, -1, 2, 2],
        "blocks": [[1, 1, 1, 1], [1, 1, 1, 1]],
        "block_repeat": [[1, 1, 1, 1], [1, 1, 1, 1]],
        "c_cond": 32,
        "c_clip": POOLED,
        "c_r": 16,
    }
    return make("Stable_Cascade_B", {"stable_cascade_stage": "b"} | sizes)


def cascade_b():
    """Stable Cascade's second stage: a prior (16 channels) of any size is stretched over the picture."""
    return _cascade_b().clone()


@built_once
def _z_image():
    sizes = {"dim": 256, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 8, "n_kv_heads": 8, "multiple_of": 32}
    texts = {"cap_feat_dim": WIDTH, "axes_dims": [8, 12, 12], "axes_lens": [64, 64, 64], "qk_norm": True}
    later = {"in_channels": 16, "z_image_modulation": True, "ffn_dim_multiplier": 8 / 3}
    return make("ZImage", {"image_model": "lumina2"} | sizes | texts | later)


def z_image():
    """Z-Image. Latents [B, 16, H, W]."""
    return _z_image().clone()


@built_once
def _hunyuan_video():
    sizes = {"in_channels": 16, "out_channels": 16, "hidden_size": 128, "num_heads": 1, "depth": 1}
    shape = {"patch_size": [1, 2, 2], "axes_dim": [16, 56, 56], "theta": 256, "mlp_ratio": 1.0, "qkv_bias": True}
    text = {"vec_in_dim": POOLED, "context_in_dim": WIDTH, "depth_single_blocks": 1, "guidance_embed": True}
    later = {"byt5": False, "meanflow": False, "use_cond_type_embedding": False, "vision_in_dim": None}
    config = {"image_model": "hunyuan_video", "meanflow_sum": False} | sizes | shape | text | later
    return make("HunyuanVideo", config)


def hunyuan_video():
    """HunyuanVideo with a reference picture as a latent. Latents [B, 16, T, H, W]."""
    return _hunyuan_video().clone()


@built_once
def _kandinsky():
    sizes = {"model_dim": 64, "ff_dim": 64, "time_dim": 32, "num_text_blocks": 1, "num_visual_blocks": 1}
    texts = {"in_text_dim": WIDTH, "in_text_dim2": POOLED, "visual_embed_dim": 132}
    return make("Kandinsky5", {"image_model": "kandinsky5"} | sizes | texts)


def kandinsky():
    """Kandinsky 5 image to video: first frames in place of the latent's. Latents [B, 16, T, H, W]."""
    return _kandinsky().clone()


@built_once
def _svd():
    slim = SD_UNET | {
        "in_channels": 8,
        "context_dim": 64,
        "model_channels": 64,
        "use_linear_in_transformer": True,
        "transformer_depth": [1, 1],
        "transformer_depth_middle": 0,
        "transformer_depth_output": [1, 1, 1, 1],
        "num_classes": "sequential",
        "adm_in_channels": 768,
        "use_temporal_attention": True,
        "use_temporal_resblock": True,
        "video_kernel_size": [3, 1, 1],
        "extra_ff_mix_layer": True,
        "use_spatial_context": True,
        "merge_strategy": "learned_with_images",
    }
    return make("SVD_img2vid", slim)


def svd():
    """Stable Video Diffusion, whose batch is time. Latents [T, 4, H, W]."""
    return _svd().clone()


SD15 = SD_UNET | {"model_channels": 64, "context_dim": WIDTH, "num_heads": 8}


@built_once
def _sd15(family, channels):
    return make(family, SD15 | {"in_channels": channels})


def sd15():
    """SD 1.5 a fifth as wide as `tiny_models.sd15`. Latents [B, 4, H, W]."""
    return _sd15("SD15", 4).clone()


def sd15_inpaint():
    """SD 1.5 that also reads mask and masked picture (5 channels)."""
    return _sd15("SD15", 9).clone()


def pix2pix():
    """Instruct Pix2Pix: the picture to edit beside the latent. Latents [B, 4, H, W]."""
    return _sd15("SD15_instructpix2pix", 8).clone()


SDXL = SD_UNET | {
    "context_dim": WIDTH,
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": POOLED + 6 * 256,
}


@built_once
def _sdxl(width):
    return make("SDXL", SDXL | {"model_channels": width})


def sdxl(width=320):
    """SDXL of two levels, as wide as in the real one, with its size embedding. Latents [B, 4, H, W]."""
    return _sdxl(width).clone()


HUNYUAN_DIT = {
    "image_model": "hydit",
    "hidden_size": 32,
    "depth": 40,  # its ControlNet has an output for every skip connection
    "num_heads": 1,
    "mlp_ratio": 1.0,
    "text_states_dim": WIDTH,
    "text_states_dim_t5": POOLED,
    "text_len": 8,
    "text_len_t5": 8,
}


@built_once
def _hunyuan_dit():
    return make("HunyuanDiT", HUNYUAN_DIT)


def hunyuan_dit():
    """HunyuanDiT. Latents [B, 4, H, W]."""
    return _hunyuan_dit().clone()


def hunyuan_prompt(seed):
    """Its two texts and their masks."""
    t5 = prompt(seed + 10, tokens=8, width=POOLED)[0][0]
    masks = {"attention_mask": torch.ones(1, 8), "attention_mask_mt5xl": torch.ones(1, 8)}
    return prompt(seed, tokens=8, conditioning_mt5xl=t5, **masks)


@built_once
def _pixart():
    sizes = {"hidden_size": 48, "depth": 1, "num_heads": 2, "caption_channels": WIDTH, "model_max_length": 16}
    told = {"micro_condition": True, "pe_interpolation": 1}
    return make("PixArtAlpha", {"image_model": "pixart_alpha"} | told | sizes)


def pixart():
    """PixArt, which is told the size and the form of its picture. Latents [B, 4, H, W]."""
    return _pixart().clone()


# ---- Families whose networks are large or costly: the host's class around a network that reads its conditions ----


class ReadingNetwork(torch.nn.Module):
    """x, timestep and texts, and every picture among the conditions, each column by column.

    A condition of another size than x is stretched over it, as no network does that the host knows: one that has not
    been cut shows.
    """

    dtype = torch.float32

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x, t, context=None, control=None, transformer_options=None, **conditions):
        """Prediction [B, C, ..., W] for x [B, C or more, ..., W]."""
        conditions["beside"] = x[:, self.channels :]
        x = x[:, : self.channels]
        shift = (t / 100).sin() + context.mean((1, 2))
        out = 0.8 * x + 0.4 * torch.tanh(x.roll(1, -1) + shift.reshape(-1, *[1] * (x.ndim - 1)))
        for name in sorted(conditions):
            part = conditions[name]
            if isinstance(part, torch.Tensor) and part.ndim >= 3 and part.numel():
                out = out + 0.3 * torch.tanh(self._columns(part, x))
        return out

    def _columns(self, part, x):
        """[B, 1, ..., columns of x]: the means of a condition's columns."""
        along = part.float().flatten(1, -2).mean(1, keepdim=True)
        along = torch.nn.functional.interpolate(along, x.shape[-1], mode="linear")
        return along.reshape(len(x), *[1] * (x.ndim - 2), -1)


@built_once
def _reading(family):
    config = {"disable_unet_model_creation": True, "timestep_features_type": "expo"}
    supported = getattr(comfy.supported_models, family)(config)
    supported.set_inference_dtype(torch.float32, None)
    embedder = comfy.ldm.audio.embedders.NumberConditioner(768, fourier_features_type="expo")
    of_seconds = randomise(embedder, 3).state_dict()
    model = supported.get_model({f"conditioner.conditioners.seconds_total.{k}": v for k, v in of_seconds.items()}, "")
    model.diffusion_model = ReadingNetwork(supported.latent_format.latent_channels)
    return patcher(model)


def reading(family):
    """A model of the host's class for a family, with its way of encoding conditions, around a `ReadingNetwork`."""
    return _reading(family).clone()
