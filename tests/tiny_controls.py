"""Tiny controls of every kind that the host knows, and the autoencoders that some encode their hints with.

The host's own networks with seeded random weights, also where training starts at zero; they fit `tiny_families`.
"""

import torch

import comfy.cldm.cldm
import comfy.cldm.dit_embedder
import comfy.cldm.mmdit
import comfy.controlnet
import comfy.latent_formats
import comfy.ldm.flux.controlnet
import comfy.ldm.hydit.controlnet
import comfy.ldm.qwen_image.controlnet
import comfy.ldm.wan.vae
import comfy.ops
import comfy.sd
import comfy.t2i_adapter.adapter
import comfy.taesd.taesd
from comfy_extras.nodes_controlnet import SetUnionControlNetType

from safa_pack.tests import tiny_families, tiny_models
from safa_pack.tests.tiny_models import build, built_once, randomise

CPU = torch.device("cpu")
OPERATIONS = comfy.ops.disable_weight_init


# ---- Autoencoders ----


@built_once
def autoencoder(channels):
    """A VAE of pictures, the small one that the host previews with: latents [B, channels, H / 8, W / 8]."""
    network = randomise(comfy.taesd.taesd.TAESD(latent_channels=channels), 7)
    return comfy.sd.VAE(sd=network.state_dict())


def wan_vae_weights():
    """A small VAE of Wan's, as the weights of its file."""
    network = comfy.ldm.wan.vae.WanVAE(
        dim=8,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
        image_channels=3,
        conv_out_channels=3,
        dropout=0.0,
    )
    return randomise(network, 7).state_dict()


@built_once
def video_autoencoder():
    """Wan's VAE, for which a batch of pictures is a video: latents [1, 16, T, H / 8, W / 8]."""
    return comfy.sd.VAE(sd=wan_vae_weights())


# ---- ControlNets of UNets ----


def _unet_control(config, **options):
    config = {key: value for key, value in config.items() if key != "out_channels"}
    network = build(comfy.cldm.cldm.ControlNet, config | {"hint_channels": 3} | options, 17)
    randomise(network.input_hint_block, 17, scale=1.6)  # its seven SiLUs would swallow the hint
    return network


@built_once
def _sd15_network(hint_channels):
    return _unet_control(tiny_families.SD15, hint_channels=hint_channels)


def sd15():
    """For `tiny_families.sd15`, from a picture in pixels."""
    return comfy.controlnet.ControlNet(_sd15_network(3), load_device=CPU)


def sd15_inpaint():
    """The same with a mask beside the picture (AliMama's)."""
    return comfy.controlnet.ControlNet(_sd15_network(4), load_device=CPU, concat_mask=True)


def sd15_shuffle():
    """The same with each block's output averaged over the picture."""
    return comfy.controlnet.ControlNet(_sd15_network(3), load_device=CPU, global_average_pooling=True)


@built_once
def _sdxl_union_network():
    return _unet_control(tiny_families.SDXL, union_controlnet_num_control_type=6)


def sdxl_union():
    """For `tiny_families.sdxl`: one network for six kinds of hints, set to the fourth."""
    net = comfy.controlnet.ControlNet(_sdxl_union_network(), load_device=CPU)
    return SetUnionControlNetType.execute(net, "canny/lineart/anime_lineart/mlsd").result[0]


def sd15_lora():
    """For `tiny_families.sd15`: a ControlLora, whose network is the model's own with low-rank changes."""
    generator = torch.Generator().manual_seed(18)
    weights = {"lora_controlnet": torch.tensor([])}
    for name, value in _sd15_network(3).state_dict().items():
        if name.startswith(("input_hint_block", "zero_convs", "middle_block_out")):
            weights[name] = value
        elif name.startswith("input_blocks") and name.endswith(".weight") and value.ndim == 2:
            rows, columns = value.shape
            weights[name.removesuffix("weight") + "up"] = torch.randn(rows, 4, generator=generator) / rows**0.5
            weights[name.removesuffix("weight") + "down"] = torch.randn(4, columns, generator=generator) / columns**0.5
    return comfy.controlnet.ControlLora(weights)


# ---- T2I adapters ----


class LightAdapter(comfy.t2i_adapter.adapter.Adapter_light):
    """An adapter for UNets of two levels with one block each."""

    def __init__(self):
        super().__init__(channels=[64, 64], nums_rb=1, cin=192)

    def forward(self, x):
        lower, upper = (f for f in super().forward(x)["input"] if f is not None)
        return {"input": [lower, None, upper, None]}  # read from the end, block by block


class CoarseAdapter(comfy.t2i_adapter.adapter.Adapter):
    """An adapter of SDXL's kind, which reads 16 pixels at once: for the lower of two levels."""

    def __init__(self):
        super().__init__(channels=[64, 64], nums_rb=1, cin=768, xl=True)
        self.body[1] = self.body[0]  # which would go down once more

    def forward(self, x):
        features = super().forward(x)
        (lower, *_) = [*features["middle"], *features["input"]]
        return {"input": [lower, None, None, None]}


@built_once
def _adapter_network(kind):
    return randomise(kind(), 5, scale=3)


def light_adapter():
    """A T2I-Adapter (light) for `tiny_families.sd15`."""
    return comfy.controlnet.T2IAdapter(_adapter_network(LightAdapter), 3, 8, "nearest-exact")


def coarse_adapter():
    """A T2I-Adapter that needs sizes that are multiples of 16 pixels."""
    return comfy.controlnet.T2IAdapter(_adapter_network(CoarseAdapter), 3, 8, "nearest-exact")


def grey_adapter():
    """A T2I-Adapter of one channel, as those for sketches; 32 pixels a latent, as Stable Cascade's."""
    return comfy.controlnet.T2IAdapter(_adapter_network(GreyAdapter), 1, 32, "bilinear")


class GreyAdapter(torch.nn.Module):
    """Means of 32 pixels for the upper of two levels."""

    unshuffle_amount = 8

    def __init__(self):
        super().__init__()
        self.project = torch.nn.Conv2d(1, 64, 32, 32)

    def forward(self, x):
        return {"input": [None, None, self.project(x), None]}


# ---- ControlNets of transformers ----


@built_once
def _sd3_network(channels):
    config = {key: value for key, value in tiny_models.SD3_MMDIT.items() if key != "x_block_self_attn_layers"}
    sizes = {"num_blocks": 1, "control_latent_channels": channels, "num_patches": 32**2, "pos_embed_max_size": 32}
    network = build(comfy.cldm.mmdit.ControlNet, config | sizes, 21)
    network.pos_embed.copy_(0.5 * torch.randn(network.pos_embed.shape, generator=torch.Generator().manual_seed(21)))
    return network


def _sd3(network, kind=comfy.controlnet.ControlNet, **options):
    form = comfy.latent_formats.SD3()
    form.shift_factor = 0
    return kind(network, compression_ratio=1, latent_format=form, load_device=CPU, **options)


def sd3():
    """For `tiny_models.sd3`, from a picture that the VAE encodes."""
    return _sd3(_sd3_network(16))


def sd3_inpaint():
    """The same with a mask beside the picture's latent."""
    return _sd3(_sd3_network(17), concat_mask=True)


@built_once
def _sd35_network():
    sizes = {"img_size": None, "patch_size": 2, "in_chans": 16, "num_layers": 1, "main_model_double": 2}
    heads = {"double_y_emb": False, "attention_head_dim": 64, "num_attention_heads": 2, "adm_in_channels": 2048}
    return build(comfy.cldm.dit_embedder.ControlNetEmbedder, sizes | heads | {"pos_embed_max_size": 32}, 22)


def sd35():
    """Stability's for SD3.5 (depth: the picture is turned to its negative)."""
    return _sd3(_sd35_network(), comfy.controlnet.ControlNetSD35, preprocess_image=lambda hint: 1.0 - hint)


@built_once
def _flux_network(**options):
    return build(comfy.ldm.flux.controlnet.ControlNetFlux, tiny_families.FLUX | options, 23)


def _flux(network, **options):
    return comfy.controlnet.ControlNet(network, load_device=CPU, extra_conds=["y", "guidance"], **options)


def flux_xlabs():
    """XLabs' for Flux, from a picture in pixels."""
    return _flux(_flux_network())


def flux_mistoline():
    """MistoLine's for Flux, from a picture in pixels."""
    return _flux(_flux_network(mistoline=True))


def _flux_latent(channels, **options):
    network = _flux_network(latent_input=True, control_latent_channels=channels, **options)
    form = comfy.latent_formats.Flux()
    return _flux(network, compression_ratio=1, latent_format=form, concat_mask=channels == 17)


def flux_union():
    """InstantX's union for Flux, from a picture that the VAE encodes, set to its third kind of hint."""
    net = _flux_latent(16, num_union_modes=3)
    net.set_extra_arg("control_type", [2])
    return net


def flux_inpaint():
    """AliMama's for Flux: a mask beside the picture's latent."""
    return _flux_latent(17)


@built_once
def _qwen_network(extra_channels):
    sizes = {"extra_condition_channels": extra_channels}
    return build(comfy.ldm.qwen_image.controlnet.QwenImageControlNetModel, tiny_families.QWEN | sizes, 24)


def _qwen(network, kind=comfy.controlnet.ControlNet, **options):
    form = comfy.latent_formats.Wan21()
    return kind(network, compression_ratio=1, latent_format=form, load_device=CPU, extra_conds=[], **options)


def qwen():
    """InstantX's for Qwen-Image, from a picture that a VAE for video encodes."""
    return _qwen(_qwen_network(0))


def qwen_inpaint():
    """InstantX's inpainting for Qwen-Image: a mask beside the picture's latent."""
    return _qwen(_qwen_network(4), concat_mask=True)


@built_once
def _qwen_fun_network():
    sizes = {"inner_dim": 32, "num_attention_heads": 1, "attention_head_dim": 32}
    blocks = {"num_control_blocks": 2, "injection_layers": (0, 1)}
    return build(comfy.ldm.qwen_image.controlnet.QwenImageFunControlNetModel, sizes | blocks, 25)


def qwen_fun():
    """Alibaba's Fun for Qwen-Image, which borrows layers of the model it runs beside."""
    return _qwen(_qwen_fun_network(), comfy.controlnet.QwenFunControlNet)


@built_once
def _hunyuan_network():
    sizes = {key: value for key, value in tiny_families.HUNYUAN_DIT.items() if key != "image_model"}
    return build(comfy.ldm.hydit.controlnet.HunYuanControlNet, sizes, 26)


def hunyuan_dit():
    """For `tiny_families.hunyuan_dit`, from a picture that the VAE encodes."""
    texts = ["text_embedding_mask", "encoder_hidden_states_t5", "text_embedding_mask_t5"]
    form = comfy.latent_formats.SDXL()
    network = _hunyuan_network()
    return comfy.controlnet.ControlNet(
        network, compression_ratio=1, latent_format=form, load_device=CPU, extra_conds=texts
    )


# ---- Of another pack ----


class BoundControl(comfy.controlnet.ControlNet):
    """As packs of advanced controls do: what runs is bound on the object, and `copy` binds it anew."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.get_control = self.get_control_of_mine

    def get_control_of_mine(self, *args):
        """The host's control, by way of the object that this was bound on."""
        return comfy.controlnet.ControlNet.get_control(self, *args)

    def copy(self):
        """As the host's."""
        made = BoundControl(None, load_device=self.load_device)
        made.control_model, made.control_model_wrapped = self.control_model, self.control_model_wrapped
        self.copy_to(made)
        return made


def bound():
    """A control for `tiny_families.sd15` whose method sits on the object."""
    return BoundControl(_sd15_network(3), load_device=CPU)
