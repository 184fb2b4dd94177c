"""The host's layers in place of torch's, so that it can cast, offload and patch weights one layer at a time."""

from __future__ import annotations

import torch

import comfy.ops

LAYERS = {
    kind: kind.__name__
    for kind in (
        torch.nn.Linear,
        torch.nn.Conv1d,
        torch.nn.Conv2d,
        torch.nn.ConvTranspose1d,
        torch.nn.GroupNorm,
        torch.nn.LayerNorm,
    )
}


def use_host_ops(module: torch.nn.Module, weight_dtype: torch.dtype, compute_dtype: torch.dtype | None) -> None:
    """Give every plain torch layer in `module` the host's class of the same name; weights and results stay."""
    operations = comfy.ops.pick_operations(weight_dtype, compute_dtype)
    for layer in module.modules():
        name = LAYERS.get(type(layer))
        if name is not None:
            layer.__class__ = getattr(operations, name)
