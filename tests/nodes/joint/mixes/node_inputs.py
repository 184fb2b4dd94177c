"""Tiny models and other inputs for the nodes of the host that patch one family of models: narrow, random weights."""

import copy
import importlib

import torch

import comfy.ldm.anima.lllite
import comfy.ldm.lumina.controlnet
import comfy.ldm.supir.supir_modules
import comfy.ldm.wan.uni3c
import comfy.ops
from comfy.ldm.supir.supir_modules import GLVControl, ZeroCrossAttn, ZeroSFT
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers

from safa_pack.tests import tiny_models
from safa_pack.tests.nodes.harness import ALIVE
from safa_pack.tests.tiny_families import FLUX, POOLED, WIDTH, make
from safa_pack.tests.tiny_models import built_once, patcher, randomise

PIXELS, TALKING = 8, 80
ADM = POOLED + 6 * 256  # SDXL's pooled text and sizes
OPERATIONS = {"device": "cpu", "dtype": torch.float32, "operations": comfy.ops.manual_cast}


def kept(model):
    """The model itself, kept: the host takes a clone that went away for a leak, and searches for it at every load."""
    ALIVE.append(model)
    return model


# ---- Models ----


UNET = tiny_models.SD_UNET | {
    "model_channels": 32,
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_middle": 1,
    "context_dim": WIDTH,
    "num_heads": 2,
}


@built_once
def _unet(seed):
    return make("SD15", UNET, seed)


def unet():
    """SD 1.5 with attention on both levels and in its middle, where some nodes look for it. Latents [B, 4, H, W]."""
    return _unet(15).clone()


def other_unet():
    """`unet` with other weights."""
    return kept(_unet(45).clone())


@built_once
def _sdxl():
    heads = {"transformer_depth": [0, 1], "num_head_channels": 32, "use_linear_in_transformer": True}
    return make("SDXL", UNET | heads | {"num_classes": "sequential", "adm_in_channels": ADM})


def sdxl():
    """SDXL. Latents [B, 4, H, W]."""
    return _sdxl().clone()


@built_once
def _z_image():
    heads = {"n_heads": 2, "n_kv_heads": 2, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512]}
    sizes = {
        "patch_size": 2,
        "in_channels": 16,
        "dim": 256,
        "n_layers": 2,
        "n_refiner_layers": 1,
        "cap_feat_dim": WIDTH,
    }
    rest = {"multiple_of": 32, "ffn_dim_multiplier": 1.0, "qk_norm": True, "rope_theta": 256.0, "time_scale": 1000.0}
    return make("ZImage", {"image_model": "lumina2", "z_image_modulation": True} | heads | sizes | rest)


def z_image():
    """Z-Image. Latents [B, 16, H, W]."""
    return _z_image().clone()


@built_once
def _flux2():
    return make("Flux", FLUX | {"guidance_embed": False, "vec_in_dim": None, "global_modulation": True})


def flux2():
    """Flux that reads neither guidance nor pooled texts, as Flux 2 of few steps does. Latents [B, 16, H, W]."""
    return _flux2().clone()


class WrappedToy(tiny_models.ToyDenoiser):
    """The toy with what the host's own networks have: wrappers around its forward, and patches with a place."""

    def __init__(self, channels, patch):
        super().__init__(channels)
        self.patch = patch

    def forward(self, x, t, transformer_options, **values):
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, transformer_options)
        executor = WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, t, transformer_options=transformer_options, **values)

    def _forward(self, x, t, **values):
        of_patches = torch.nn.functional.avg_pool2d(x, self.patch)
        of_patches = of_patches.repeat_interleave(self.patch, -1).repeat_interleave(self.patch, -2)
        return super().forward(x + of_patches, t, **values)


@built_once
def _wrapped_toy(channels, patch):
    model = tiny_models.toy(flow=True, channels=channels).model
    wrapped = copy.copy(model)
    wrapped._modules = dict(model._modules)
    wrapped.diffusion_model = WrappedToy(channels, patch).eval()
    return patcher(wrapped)


def wrapped_toy(channels=4, patch=2):
    """A toy with patches of `patch` latents, flow. Latents [B, `channels`, H, W]."""
    return _wrapped_toy(channels, patch).clone()


@built_once
def _wan_i2v():
    sizes = {"dim": TALKING, "ffn_dim": TALKING, "num_heads": 1, "num_layers": 1, "text_dim": WIDTH}
    channels = {"in_dim": 36, "out_dim": 16}
    return make("WAN21_I2V", {"image_model": "wan2.1", "model_type": "i2v"} | sizes | channels)


def wan_i2v():
    """Wan 2.1 image to video of a width that InfiniteTalk's 40 heads go into. Latents [B, 16, T, H, W]."""
    return _wan_i2v().clone()


# ---- Patches (MODEL_PATCH) ----


def _patch_nodes():
    """The host's module of these nodes, which the host imports after its own."""
    return importlib.import_module("comfy_extras.nodes_model_patch")


@built_once
def diffsynth():
    """A block-wise ControlNet for `tiny_families.qwen_image`."""
    nodes = _patch_nodes()
    network = nodes.QwenImageBlockWiseControlNet(num_layers=0, in_dim=64, dim=32, **OPERATIONS)
    network.controlnet_blocks.extend(nodes.BlockWiseControlBlock(32, **OPERATIONS) for _ in range(2))
    for block in network.controlnet_blocks:  # which the host makes without a type
        block.x_rms, block.y_rms = (comfy.ops.manual_cast.RMSNorm(32, eps=1e-6) for _ in range(2))
    return patcher(randomise(network, 7))


@built_once
def z_image_control():
    """A Fun ControlNet for `z_image`."""
    sizes = {"dim": 256, "n_heads": 2, "n_kv_heads": 2, "multiple_of": 32, "ffn_dim_multiplier": 1.0}
    network = comfy.ldm.lumina.controlnet.ZImage_Control(n_control_layers=1, **sizes, **OPERATIONS)
    return patcher(randomise(network, 8))


@built_once
def uni3c():
    """A Uni3C ControlNet for `tiny_families.wan`."""
    sizes = {"dim": 48, "conv_out_dim": 128, "ffn_dim": 48, "num_heads": 1, "num_layers": 1}
    widths = {"time_embed_dim": 128, "out_proj_dim": 128, "mid_channels": 16}
    return patcher(randomise(comfy.ldm.wan.uni3c.WanUni3CControlnet(**sizes, **widths, **OPERATIONS), 9))


@built_once
def multitalk():
    """InfiniteTalk's layers for `wan_i2v`."""
    network = _patch_nodes().MultiTalkModelPatch
    return patcher(randomise(network(intermediate_dim=8, in_dim=TALKING, out_dim=16, num_layers=1, **OPERATIONS), 10))


@built_once
def siglip():
    """USO's projector for `tiny_families.flux`."""
    network = _patch_nodes().SigLIPMultiFeatProjModel
    sizes = {"siglip_token_nums": 9, "style_token_nums": 4, "siglip_token_dims": 16, "hidden_size": 128}
    return patcher(randomise(network(**sizes, **OPERATIONS), 11))


@built_once
def lllite():
    """A LLLite for `tiny_families.cosmos`, with a mask beside the picture."""
    conditioning = comfy.ldm.anima.lllite.AnimaLLLiteConditioning(4, 16, 16, 1, (), **OPERATIONS)
    weights = {f"lllite_conditioning1.{name}": value for name, value in conditioning.state_dict().items()}
    module = comfy.ldm.anima.lllite.AnimaLLLiteModule(64, 16, 8, **OPERATIONS)
    for target in ("self_attn_q_proj", "cross_attn_q_proj", "mlp_layer1"):
        weights |= {f"lllite_dit_blocks_0_{target}.{name}": value for name, value in module.state_dict().items()}
    return patcher(randomise(comfy.ldm.anima.lllite.AnimaLLLite(weights, {}, **OPERATIONS), 12))


class Supir(torch.nn.Module):
    """SUPIR's control and adapters for `sdxl`."""

    def __init__(self):
        super().__init__()
        sizes = {"model_channels": 32, "num_res_blocks": 1, "channel_mult": (1, 2), "transformer_depth": (1, 1)}
        rest = {"attention_resolutions": (2,), "context_dim": WIDTH, "adm_in_channels": ADM}
        self.control_model = GLVControl(**sizes, **rest, **OPERATIONS)
        middle, across = ZeroSFT(64, 64, 0, **OPERATIONS), ZeroCrossAttn(32, 64, **OPERATIONS)
        widths = [(32, 32, 32), (32, 32, 64), (32, 32, 64), (64, 64, 64)]  # of the blocks on the way up, the last first
        blocks = [ZeroSFT(*of_block, **OPERATIONS) for of_block in widths]
        self.project_modules = torch.nn.ModuleList([*blocks[:2], across, *blocks[2:], middle])


@built_once
def supir():
    """SUPIR for `sdxl`."""
    return patcher(randomise(Supir(), 13))


# ---- Other inputs ----


class Vae:
    """A VAE in closed form: the means of 8 x 8 pixels, mixed to the channels of a latent with `dims` axes."""

    def __init__(self, channels, dims=2):
        self.dims = dims
        self.mixture = torch.randn(3, channels, generator=torch.Generator().manual_seed(3))

    def encode(self, image):
        """[b, height, width, 3] to [b, channels, height / 8, width / 8], or [1, channels, b, ...] of a video."""
        small = torch.nn.functional.avg_pool2d(image[..., :3].movedim(-1, 1), PIXELS)
        latent = torch.einsum("bchw,cd->bdhw", small, self.mixture)
        return latent if self.dims == 2 else latent[::4].movedim(0, 1).unsqueeze(0)

    def decode(self, latent):
        image = torch.einsum("bdhw,dc->bhwc", latent, torch.linalg.pinv(self.mixture))
        return image.repeat_interleave(PIXELS, 1).repeat_interleave(PIXELS, 2)

    def spacial_compression_encode(self):
        return PIXELS

    def temporal_compression_decode(self):
        return 4


def canvas_image(cut, rows=4, frames=1):
    """A picture of the canvas, or the piece of it that lies under a view."""
    width = 28 * PIXELS
    image = torch.rand(frames, rows * PIXELS, width, 3, generator=torch.Generator().manual_seed(1))
    image[..., 0] = torch.linspace(0, 1, width)
    return cut(image, PIXELS, axis=2)


def canvas_mask(cut, rows=4):
    """A mask of the canvas in pixels, or the piece of it that lies under a view."""
    mask = (torch.rand(1, rows, 28, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    mask = mask.repeat_interleave(PIXELS, 1).repeat_interleave(PIXELS, 2)
    return cut(mask, PIXELS)


class ClipVision:
    """What CLIP Vision Encode gives: layers of 9 tokens, 16 wide."""

    def __init__(self):
        self.all_hidden_states = torch.randn(1, 22, 9, 16, generator=torch.Generator().manual_seed(6))
        self.penultimate_hidden_states = self.all_hidden_states[:, -2]


def voice():
    """What an audio encoder gives: 13 layers of a second of sound."""
    generator = torch.Generator().manual_seed(5)
    return {"encoded_audio_all_layers": [torch.randn(1, 50, 768, generator=generator) for _ in range(13)]}


def tonemap():
    """The host's Reinhard tone mapping of a latent."""
    nodes = importlib.import_module("comfy_extras.nodes_latent")
    return nodes.LatentOperationTonemapReinhard.execute(1.0).result[0]


def lora(seed=18, rank=4):
    """A LoRA for `unet`: every matrix of its transformers."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, weight in unet().model.diffusion_model.state_dict().items():
        if "transformer_blocks" in name and weight.ndim == 2:
            rows, columns = weight.shape
            key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            weights[f"{key}.lora_down.weight"] = torch.randn(rank, columns, generator=generator) / columns**0.5
            weights[f"{key}.lora_up.weight"] = torch.randn(rows, rank, generator=generator) / rank**0.5
    return weights


def hypernetwork(seed=4):
    """A hypernetwork for `unet`: layers for keys of 32 and 64 channels."""
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for width in (32, 64):
        matrix = torch.randn(width, width, generator=generator) / width**0.5
        layer = {"linear.0.weight": matrix, "linear.0.bias": torch.zeros(width)}
        layers[width] = [layer, layer]
    return layers
