"""Other attention in a model while it samples: one method per model, and a way into diffusers' UNets.

The host's own networks read `transformer_options` in their attention layers; the UNets of audio_unet.py do not. For
these the processors of the attention layers are replaced around each call of the model and put back behind it, so
nothing is left on the module, which all clones of a MODEL share.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import torch

from comfy.patcher_extension import WrappersMP

METHOD = "safa_self_attention"  # attachment of a MODEL: the node whose method its self-attention is

Processor = Callable[..., torch.Tensor]  # processor(attn, hidden_states, encoder_hidden_states, attention_mask, ...)


def claim_self_attention(model, who: str) -> None:
    """Note on a clone of a host MODEL that the node `who` changes self-attention; one node may (ValueError)."""
    other = model.get_attachment(METHOD)
    if other is not None:
        raise ValueError(
            f"{who}: the model already has {other}, and both replace its self-attention; connect the model from "
            f"before {other}."
        )
    model.set_attachments(METHOD, who)


def is_diffusers(unet: torch.nn.Module) -> bool:
    """Whether a `diffusion_model` is a UNet of audio_unet.py, told without the seconds that the library takes."""
    return hasattr(unet, "attn_processors")


def attention_layers(unet: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The attention layers of a diffusers UNet by name, `down_blocks.1.attentions.0.transformer_blocks.0.attn1`."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    return {name: unet.get_submodule(name) for name in names}


def swap_attention(model, key: str, choose: Callable[[dict, torch.Tensor, dict], dict[str, Processor]]) -> None:
    """Let a clone of a host MODEL with a diffusers UNet run other attention processors.

    choose(layers, x, transformer_options) is asked at every call of the model and returns the processors to run, by
    layer name; layers that it leaves out keep theirs. layers: `attention_layers`, whose `.processor` is each layer's
    own. x: [rows, 8, T, F], rows in the order of transformer_options["uuids"]. transformer_options: the host's.
    """

    def apply_model(executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
        layers = attention_layers(executor.class_obj.diffusion_model)
        with _swapped(layers, choose(layers, x, transformer_options)):
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, apply_model)


@contextmanager
def _swapped(layers: dict[str, torch.nn.Module], processors: dict[str, Processor]):
    own = {name: layers[name].processor for name in processors}
    try:
        for name, processor in processors.items():
            layers[name].processor = processor
        yield
    finally:
        for name, processor in own.items():
            layers[name].processor = processor


def token_grid(tokens: int, size: tuple[int, int]) -> tuple[int, int]:
    """The level of a UNet that has so many tokens: size [rows, columns] halved, rounded up, until it fits.

    Tokens run along the last dimension first: token n is row n // columns, column n % columns. Raises ValueError
    where no level fits.
    """
    rows, columns = size
    while rows * columns > tokens and (rows, columns) != (1, 1):
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    if rows * columns != tokens:
        raise ValueError(f"Expected the tokens of a latent of {size[0]} x {size[1]}, halved some times, got {tokens}.")
    return rows, columns
