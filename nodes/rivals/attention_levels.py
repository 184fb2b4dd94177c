"""How coarse each attention layer of a UNet is: the host's UNets and those of diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample

from .attention_swap import attention_layers

Place = TypeVar("Place", str, tuple[str, int])


@dataclass(frozen=True)
class AttentionLevel(Generic[Place]):
    """An attention layer and its level in the UNet.

    place:  the layer's name in a diffusers UNet; (kind, number) of its block in the host's.
    layer:  diffusers' Attention, or the host's SpatialTransformer.
    factor: downsampling, in latent columns (and rows) per token.
    """

    place: Place
    layer: torch.nn.Module
    factor: int


def host_attention(unet: UNetModel) -> list[AttentionLevel[tuple[str, int]]]:
    """Every transformer of the host's UNet, in the order of running."""
    middle = [] if unet.middle_block is None else [unet.middle_block]
    factor, levels = 1, []
    for kind, blocks in (("input", unet.input_blocks), ("middle", middle), ("output", unet.output_blocks)):
        for number, block in enumerate(blocks):
            for layer in block:
                if isinstance(layer, SpatialTransformer):
                    levels.append(AttentionLevel((kind, number), layer, factor))
                elif isinstance(layer, Downsample):
                    factor *= 2
                elif isinstance(layer, Upsample):
                    factor //= 2
    return levels


def diffusers_attention(unet: torch.nn.Module) -> list[AttentionLevel[str]]:
    """Every attention layer of a diffusers UNet, in the order of its modules (down, up, middle)."""
    factors = _block_factors(unet)
    levels = []
    for name, layer in attention_layers(unet).items():
        factor = next(factor for block, factor in factors.items() if name.startswith(f"{block}."))
        levels.append(AttentionLevel(name, layer, factor))
    return levels


def _block_factors(unet: torch.nn.Module) -> dict[str, int]:
    """Downsampling within each block of a diffusers UNet, by the block's name."""
    factor, factors = 1, {}
    for i, block in enumerate(unet.down_blocks):
        factors[f"down_blocks.{i}"] = factor
        factor *= 2 if block.downsamplers else 1
    factors["mid_block"] = factor
    for i, block in enumerate(unet.up_blocks):
        factors[f"up_blocks.{i}"] = factor
        factor //= 2 if block.upsamplers else 1
    return factors
