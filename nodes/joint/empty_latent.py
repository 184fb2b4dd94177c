"""Latents as the host's samplers take them, and empty ones for a model."""

from __future__ import annotations

import math

import torch

import comfy.model_management
import comfy.sample
from comfy.model_patcher import ModelPatcher

from ..canvas import check_single
from .model_facts import ModelFacts

RATIOS = ("downscale_ratio_spacial", "downscale_ratio_temporal")  # of the host's empty latents


def fit_latent(model: ModelPatcher, latent: dict) -> dict:
    """A LATENT as the host's samplers take it: an empty one gets the model's channels and size, a picture a time."""
    check_single(latent["samples"])
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"], *(latent.get(name) for name in RATIOS))
    if samples is latent["samples"]:
        return latent
    return {**{name: value for name, value in latent.items() if name not in RATIOS}, "samples": samples}


def empty_shape(facts: ModelFacts, rows: int, columns: int, batch_size: int) -> torch.Size:
    """The shape of an empty canvas, [B, C, ...]."""
    shape = {
        1: [batch_size, facts.channels, columns],
        2: [batch_size, facts.channels, rows, columns],
        3: [batch_size, facts.channels, 1, rows, columns],
    }[facts.dimensions]
    if facts.axis is not None:
        shape[facts.axis], shape[-1] = shape[-1], shape[facts.axis]
    return torch.Size(shape)


def empty_latent(facts: ModelFacts, shape: torch.Size) -> dict:
    """An empty canvas as a LATENT; refuses one that takes more than half of the memory (ValueError)."""
    device = comfy.model_management.intermediate_device()
    dtype = comfy.model_management.intermediate_dtype()
    size, memory = math.prod(shape) * dtype.itemsize, comfy.model_management.get_total_memory(device)
    if 2 * size > memory:
        raise ValueError(
            f"the latent alone would take {size / 2**30:.1f} GB of {memory / 2**30:.1f} GB; choose a smaller `length`, "
            "`height` or `batch_size`."
        )
    samples = torch.zeros(shape, device=device, dtype=dtype)
    return {"samples": samples, **({"type": "audio"} if facts.audio else {})}
