"""Models of their published sizes with random weights, in half precision: for the GPU."""

import torch

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models

from safa_pack.tests.tiny_models import SD_UNET

SD15 = SD_UNET | {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
    "num_heads": 8,
    "adm_in_channels": None,
}
SDXL = SD_UNET | {
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "context_dim": 2048,
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}
SD35_MEDIUM = {
    "input_size": None,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 24,
    "adm_in_channels": 2048,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 1536},
    },
    "num_patches": 384**2,
    "pos_embed_max_size": 384,
    "qk_norm": "rms",
    "x_block_self_attn_layers": list(range(13)),
}
# by name: the host's family, its network, the kind of its conditioning in tests.tiny_models, a view's rows and columns
SIZES = {
    "SD1.5": ("SD15", SD15, "sd15", 64),
    "SDXL": ("SDXL", SDXL, "sdxl", 128),
    "SD3.5 medium": ("SD3", SD35_MEDIUM, "sd3", 128),
}


def network(name: str, device: torch.device | str):
    """The host's model of this name on a device, its weights not written yet."""
    family, config, _, _ = SIZES[name]
    configured = getattr(comfy.supported_models, family)(config)
    configured.set_inference_dtype(torch.float16, None)
    return configured.get_model({}, "", device=device)


@torch.no_grad()
def full_size(name: str):
    """The host's MODEL of this name; weights small enough that half precision does not overflow."""
    device = comfy.model_management.get_torch_device()
    model = network(name, device)
    generator = torch.Generator(device).manual_seed(0)
    for weights in model.diffusion_model.parameters():
        weights.normal_(0, 0.02, generator=generator)
    for table in model.diffusion_model.buffers():
        if table.is_floating_point():  # the table of positions, which a checkpoint would fill
            table.normal_(0, 0.02, generator=generator)
    return comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))
