"""Gradients through the host's models, which it loads and runs under inference mode and never differentiates."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import torch
from torch.utils.checkpoint import checkpoint

import comfy.model_management
from comfy.ops import CastWeightBiasOp

PLAIN = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def check_weights(module: torch.nn.Module, what: str, who: str) -> None:
    """Refuse weights that are not plain floating-point numbers: quantised layers give no gradients (ValueError)."""
    for parameter in module.parameters():
        kind = type(parameter.data).__name__
        if parameter.dtype not in PLAIN or kind != "Tensor":
            kind = str(parameter.dtype).removeprefix("torch.") if kind == "Tensor" else kind
            raise ValueError(
                f"{who}: the {what} has quantised weights ({kind}), and its gradient is needed; load it in float16, "
                "bfloat16 or float32."
            )


def own(value):
    """`value` with every tensor of the inference mode in it replaced by a copy that autograd can keep."""
    if isinstance(value, torch.Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        return {k: own(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(own(v) for v in value)
    return value


@contextmanager
def gradients(modules, device):
    """Leave inference mode and make `modules` differentiable on `device`, their blocks recomputed going back.

    Nothing of it lasts: weights stay where and what they were.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(_attribute(comfy.model_management, "in_training", True))  # no fused kernels: no backward
        for module in modules:
            _own_weights(module, device, stack)
            for block in blocks(module):
                stack.enter_context(_attribute(block, "forward", _recomputed(block.forward)))
        yield


@contextmanager
def _attribute(holder, name, value):
    before = vars(holder).get(name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(holder, name)
        else:
            setattr(holder, name, before)


def _own_weights(module, device, stack) -> None:
    """Weights that autograd may not keep (made under inference mode, or in a buffer that the next layer overwrites)
    are copied as they are used: the host's layers by its own hook for it, which a block's recomputation frees again.
    """
    for layer in module.modules():
        if not isinstance(layer, CastWeightBiasOp):
            for name, tensor in layer._parameters.items():
                if tensor is not None and tensor.is_inference():
                    stack.enter_context(_entry(layer._parameters, name, torch.nn.Parameter(tensor.clone(), False)))
        elif any(p is not None and (p.is_inference() or p.device != device) for p in layer._parameters.values()):
            for name in ("weight_function", "bias_function"):
                stack.enter_context(_attribute(layer, name, [*getattr(layer, name), torch.clone]))
        for name, tensor in layer._buffers.items():
            if tensor is not None and tensor.is_inference():
                stack.enter_context(_entry(layer._buffers, name, tensor.clone()))


@contextmanager
def _entry(holder: dict, name, value):
    before, holder[name] = holder[name], value
    try:
        yield
    finally:
        holder[name] = before


def _recomputed(forward):
    """`forward` that keeps its inputs alone, and runs again when the gradient comes back."""

    def run(*args, **kwargs):
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        # the host writes the place it is at into such dictionaries while it runs on
        args = [dict(a) if isinstance(a, dict) else a for a in args]
        kwargs = {k: dict(v) if isinstance(v, dict) else v for k, v in kwargs.items()}
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run


def levels(module: torch.nn.Module) -> list[list[torch.nn.Module]]:
    """For each entry of a network's outermost lists (a UNet's or decoder's levels, a transformer's layers) its blocks:
    the modules in it that are called as one.
    """
    found = []
    for child in module.children():
        if isinstance(child, torch.nn.ModuleList):
            found += [_called(entry) for entry in child]
        else:
            found += levels(child)
    return [level for level in found if level]


def blocks(module: torch.nn.Module) -> list[torch.nn.Module]:
    """All blocks of `levels`."""
    return [block for level in levels(module) for block in level]


def _called(entry) -> list[torch.nn.Module]:
    container = isinstance(entry, (torch.nn.Sequential, torch.nn.ModuleList))
    if not container and type(entry).forward is not torch.nn.Module.forward:
        return [entry]
    return [block for child in entry.children() for block in _called(child)]
