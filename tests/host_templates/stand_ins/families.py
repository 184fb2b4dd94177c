"""Tiny models of families whose files have one size only: the host's own classes, built around its loader."""

from safa_pack.tests import tiny_families, tiny_models
from safa_pack.tests.tiny_models import built_once

WIDTH, POOLED = tiny_families.WIDTH, tiny_families.POOLED

CHROMA = {
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 128,
    "hidden_dim": 64,
    "n_layers": 1,
    "hidden_size": 128,
    "context_in_dim": WIDTH,
    "vec_in_dim": None,
    "num_heads": 1,
    "mlp_ratio": 4.0,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "txt_ids_dims": [],
}
HIDREAM = {
    "image_model": "hidream",
    "attention_head_dim": 128,
    "axes_dims_rope": [64, 32, 32],
    "caption_channels": [WIDTH, WIDTH],
    "max_resolution": [128, 128],
    "in_channels": 16,
    "llama_layers": [0, 1],
    "num_attention_heads": 1,
    "num_routed_experts": 2,
    "num_activated_experts": 1,
    "num_layers": 1,
    "num_single_layers": 1,
    "out_channels": 16,
    "patch_size": 2,
    "text_emb_dim": POOLED,
}
OMNIGEN2 = {
    "image_model": "omnigen2",
    "axes_dim_rope": [40, 40, 40],
    "axes_lens": [1024, 1664, 1664],
    "hidden_size": 120,
    "in_channels": 16,
    "multiple_of": 32,
    "norm_eps": 1e-05,
    "num_attention_heads": 1,
    "num_kv_heads": 1,
    "num_layers": 1,
    "num_refiner_layers": 1,
    "patch_size": 2,
    "text_feat_dim": WIDTH,
    "timestep_scale": 1000.0,
}
HIDREAM_O1 = {
    "image_model": "hidream_o1",
    "text_config_overrides": {
        "hidden_size": 128,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
    },
    "vision_config_overrides": {"hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "depth": 1},
}


@built_once
def _made(family):
    configs = {"Chroma": CHROMA, "HiDream": HIDREAM, "HiDreamO1": HIDREAM_O1, "Omnigen2": OMNIGEN2}
    return tiny_families.make(family, configs[family])


MODELS = {
    "Qwen-Image": tiny_families.qwen_image,
    "Z-Image": tiny_families.z_image,
    "ACE-Step 1.0": tiny_models.ace_step,
    "ACE-Step 1.5": tiny_models.ace_step15,
    "Chroma": lambda: _made("Chroma").clone(),
    "HiDream": lambda: _made("HiDream").clone(),
    "HiDream-O1": lambda: _made("HiDreamO1").clone(),
    "OmniGen2": lambda: _made("Omnigen2").clone(),
}
