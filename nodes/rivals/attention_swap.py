"""Replaces a model's self-attention during sampling: one method per model, and a way into diffusers' UNets.

The host's own networks read `transformer_options` in their attention layers; the UNets of audio/unet.py do not. For
these the processors of the attention layers are replaced before each call of the model and restored after it, so
nothing is left on the module, which all clones of a MODEL share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

METHOD = "safa_self_attention"  # attachment of a MODEL: the node that replaces its self-attention

Processor = Callable[..., torch.Tensor]  # processor(attn, hidden_states, encoder_hidden_states, attention_mask, ...)


def claim_self_attention(model: ModelPatcher, who: str) -> None:
    """Note on a clone of a host MODEL that the node `who` replaces self-attention; only one may (ValueError)."""
    other = model.get_attachment(METHOD)
    if other is not None:
        raise ValueError(
            f"the model already has {other}, and both replace its self-attention; connect the model from before "
            f"{other}."
        )
    model.set_attachments(METHOD, who)


def is_diffusers(unet: torch.nn.Module) -> bool:
    """Whether a `diffusion_model` is a UNet of audio/unet.py; does not import diffusers, which takes seconds."""
    return hasattr(unet, "attn_processors")


def attention_layers(unet: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The attention layers of a diffusers UNet by name, as `down_blocks.1.attentions.0.transformer_blocks.0.attn1`."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    return {name: unet.get_submodule(name) for name in names}


def swap_attention(
    model: ModelPatcher, key: str, choose: Callable[[dict, torch.Tensor, dict], dict[str, Processor]]
) -> None:
    """Let a clone of a host MODEL with a diffusers UNet run other attention processors.

    choose(layers, x, transformer_options) runs at every call of the model and returns the processors to use, by layer
    name; layers that it leaves out keep theirs. layers: `attention_layers`, whose `.processor` is each layer's
    original. x: [B, 8, T, F], in the order of transformer_options["uuids"]. transformer_options: the host's.
    """

    def apply_model(
        executor: Any,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: torch.Tensor | None,
        c_crossattn: torch.Tensor | None,
        control: dict | None,
        transformer_options: dict,
        **kwargs: Any,
    ) -> torch.Tensor:
        layers = attention_layers(executor.class_obj.diffusion_model)
        with _processors_set(layers, choose(layers, x, transformer_options)):
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, apply_model)


@contextmanager
def _processors_set(layers: dict[str, torch.nn.Module], processors: dict[str, Processor]) -> Iterator[None]:
    before = {name: layers[name].processor for name in processors}
    try:
        for name, processor in processors.items():
            layers[name].processor = processor
        yield
    finally:
        for name, processor in before.items():
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
