"""Diffusion models and autoencoders of today's families in the files that people download, for the host's own loaders.

As `tiny_checkpoints`: seeded random weights, float16, as small as the host's detection lets a file be. Texts are
`WIDTH` wide, for a text encoder that stands in: those of these families have one size, of billions of weights.
"""

import torch

import comfy.cldm.dit_embedder
import comfy.ldm.audio.autoencoder
import comfy.ldm.audio.dit
import comfy.ldm.audio.embedders
import comfy.ldm.audio.vae_sa3
import comfy.ldm.cosmos.predict2
import comfy.ldm.models.autoencoder
import comfy.taesd.taesd

from . import tiny_checkpoints, tiny_families, tiny_models
from .tiny_checkpoints import prefixed, save
from .tiny_controls import wan_vae_weights
from .tiny_models import build, randomise

WIDTH, POOLED = 768, 768


def model(family, **config):
    """A writer of the weights of one of the host's configuration classes alone; for UNETLoader."""

    def write(path):
        return save(path, tiny_families.make(family, config).model.diffusion_model.state_dict())

    return write


FLUX = tiny_models.FLUX | {"image_model": "flux", "vec_in_dim": POOLED, "context_in_dim": WIDTH}
flux = model("Flux", **FLUX)
flux_schnell = model("FluxSchnell", **FLUX | {"guidance_embed": False})
flux_concat = model("Flux", **FLUX | {"in_channels": 32})  # Canny and Depth: a picture beside the latent
flux_fill = model("FluxInpaint", **FLUX | {"in_channels": 96})

FLUX2 = {
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "vec_in_dim": None,
    "context_in_dim": WIDTH,
    "hidden_size": 128,
    "num_heads": 1,
    "mlp_ratio": 3.0,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [32, 32, 32, 32],
    "theta": 2000,
    "qkv_bias": False,
    "ops_bias": False,
    "global_modulation": True,
    "mlp_silu_act": True,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
    "txt_ids_dims": [3],
}
flux2 = model("Flux2", **FLUX2 | {"guidance_embed": True})
flux2_klein = model("Flux2", **FLUX2 | {"guidance_embed": False})

lens = model(
    "Lens",
    image_model="lens",
    in_channels=128,
    out_channels=32,
    num_layers=1,
    num_attention_heads=1,
    enc_hidden_dim=WIDTH,
    multi_layer_encoder_feature=False,
    selected_layer_index=(0,),
)

krea2 = model(
    "Krea2",
    image_model="krea2",
    features=128,
    channels=16,
    layers=1,
    heads=1,
    kvheads=1,
    txtlayers=2,
    txtdim=160,
)

ANIMA = {
    "image_model": "anima",
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 256,
    "concat_padding_mask": True,
    "crossattn_emb_channels": 1024,
    "pos_emb_cls": "rope3d",
    "use_adaln_lora": True,
    "adaln_lora_dim": 256,
    "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0,
    "rope_enable_fps_modulation": False,
}


def anima(path):
    """Anima; for UNETLoader. Its adapter of texts (134 M) has one weight: the stand-in's texts pass it by."""
    network = build(comfy.ldm.cosmos.predict2.MiniTrainDIT, ANIMA, seed=5)
    adapter = {"llm_adapter.blocks.0.cross_attn.q_proj.weight": torch.zeros(1024, 1024)}
    return save(path, network.state_dict() | adapter)


HUNYUAN = {
    "image_model": "hunyuan_video",
    "hidden_size": 128,
    "num_heads": 1,
    "depth": 1,
    "depth_single_blocks": 1,
    "mlp_ratio": 4.0,
    "theta": 256,
    "qkv_bias": True,
    "vec_in_dim": None,
    "context_in_dim": WIDTH,
    "byt5": False,
    "meanflow": False,
    "guidance_embed": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
    "use_cond_type_embedding": False,
}
hunyuan_image = model(
    "HunyuanImage21", **HUNYUAN | {"in_channels": 64, "out_channels": 64, "patch_size": [1, 1], "axes_dim": [64, 64]}
)

hunyuan_video15 = model(
    "HunyuanVideo15",
    **HUNYUAN
    | {"in_channels": 65, "out_channels": 32, "patch_size": [1, 1, 1], "axes_dim": [16, 56, 56]}
    | {"vision_in_dim": 1152, "meanflow_sum": True, "use_cond_type_embedding": True},
)


def qwen_image(path, layers=1):
    """Qwen-Image; for UNETLoader. Its width is fixed: a layer has 340 M weights."""
    config = {"image_model": "qwen_image", "in_channels": 64, "num_layers": layers}
    return model("QwenImage", **config)(path)


def sdxl(path, seed=30):
    """SDXL, as slim as KOALA, in one file with a small VAE and without text encoders; for CheckpointLoaderSimple."""
    unet = tiny_models.unet_state_dict(tiny_models.SDXL_UNET, seed)
    return save(path, prefixed("model.diffusion_model.", unet) | prefixed("first_stage_model.", _taesd(4)))


def sdxl_refiner(path):
    """Another SDXL, for a second stage."""
    return sdxl(path, seed=31)


def flux_checkpoint(path):
    """Flux Schnell in one file with a small VAE and without text encoders; for CheckpointLoaderSimple."""
    weights = tiny_families.make("FluxSchnell", FLUX | {"guidance_embed": False}).model.diffusion_model.state_dict()
    return save(path, prefixed("model.diffusion_model.", weights) | prefixed("vae.", _taesd(16)))


def _taesd(channels):
    return randomise(comfy.taesd.taesd.TAESD(latent_channels=channels), 7).state_dict()


def small_vae(path):
    """The small VAE that the host previews with, 16 channels; for VAELoader."""
    return save(path, _taesd(16))


def wan_vae(path):
    """Wan's VAE, which Qwen-Image, Krea 2 and Anima share; for VAELoader."""
    return save(path, wan_vae_weights())


def flux2_vae(path):
    """Flux 2's VAE, 128 channels and 16 pixels a latent; for VAELoader."""
    encoder = tiny_checkpoints.VAE_ENCODER | {"z_channels": 32, "batch_norm_latent": True}
    decoder = encoder | {"ch": 32}
    vae = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=encoder, decoder_ddconfig=decoder, embed_dim=32)
    weights = randomise(vae, seed=93).state_dict()
    weights["bn.running_mean"] = torch.zeros(128)
    weights["bn.running_var"] = torch.ones(128)
    return save(path, weights)


def sd35_control(path):
    """Stability's ControlNet for SD3.5 (Canny); for ControlNetLoader."""
    sizes = {"img_size": None, "patch_size": 2, "in_chans": 16, "num_layers": 1, "main_model_double": 2}
    heads = {"double_y_emb": False, "attention_head_dim": 64, "num_attention_heads": 2, "adm_in_channels": 2048}
    network = build(comfy.cldm.dit_embedder.ControlNetEmbedder, sizes | heads | {"pos_embed_max_size": 32}, seed=22)
    return save(path, network.state_dict() | {"control_type": torch.tensor(1.0)})


def lora(*layers, rank=4):
    """A writer of a LoRA for layers (name, rows, columns) of a diffusion model; for LoraLoaderModelOnly."""

    def write(path):
        generator = torch.Generator().manual_seed(18)
        weights = {}
        for name, rows, columns in layers:
            weights[f"diffusion_model.{name}.lora_B.weight"] = torch.randn(rows, rank, generator=generator)
            weights[f"diffusion_model.{name}.lora_A.weight"] = torch.randn(rank, columns, generator=generator) * 0.1
        return save(path, weights)

    return write


SAME_S = {
    "channels": 128,
    "transformer_depths": 6,
    "sinusoidal_blocks": 0,
    "decoder_conv_mapping": True,
    "chunk_size": 32,
    "chunk_midpoint_shift": True,
}


def ace_step15_vae(path):
    """The decoder of ACE-Step 1.5's VAE (84 M weights); for VAELoader."""
    return save(path, _decoder(comfy.ldm.audio.autoencoder.AudioOobleckVAE, strides=[2, 4, 4, 6, 10]))


def _decoder(vae, **sizes):
    """Weights of an autoencoder's decoder, which gives silence: nothing in a graph reads them."""
    with torch.device("meta"):
        weights = vae(**sizes).state_dict()
    return {name: torch.full(value.shape, 0.01) for name, value in weights.items() if not name.startswith("encoder")}


def stable_audio3(path):
    """Stable Audio 3 in one file, without its text encoder; for CheckpointLoaderSimple."""
    config = {
        "io_channels": 256,
        "embed_dim": 64,
        "depth": 1,
        "num_heads": 1,
        "project_cond_tokens": True,
        "global_cond_dim": 768,
        "global_cond_type": "adaLN",
        "global_cond_shared_embed": True,
        "local_add_cond_dim": 257,
        "attn_kwargs": {"qk_norm": "rms", "differential": False},
        "norm_type": "rms_norm",
        "timestep_features_type": "expo",
        "num_memory_tokens": 64,
    }
    network = build(comfy.ldm.audio.dit.AudioDiffusionTransformer, config, seed=61)
    frequencies = network.transformer.rotary_pos_emb.inv_freq
    frequencies.copy_(10000 ** -torch.linspace(0, 1, len(frequencies) + 1)[:-1])
    embedder = comfy.ldm.audio.embedders.NumberConditioner(768, max_val=384, fourier_features_type="expo")
    return save(
        path,
        prefixed("model.model.", network.state_dict())
        | prefixed("pretransform.model.", _decoder(comfy.ldm.audio.vae_sa3.SA3AudioVAE, **SAME_S))
        | prefixed("conditioner.conditioners.seconds_total.", randomise(embedder, 3, scale=8).state_dict()),
    )
