"""Gradients through the host's models, which it loads and runs under inference mode and never differentiates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

import comfy.model_management
from comfy.ops import CastWeightBiasOp

PLAIN = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def check_weights(module: torch.nn.Module, what: str) -> None:
    """Refuse weights that are not plain floating-point numbers: quantised layers give no gradients (ValueError)."""
    for parameter in module.parameters():
        kind = type(parameter.data).__name__
        if parameter.dtype not in PLAIN or kind != "Tensor":
            kind = str(parameter.dtype).removeprefix("torch.") if kind == "Tensor" else kind
            raise ValueError(
                f"the {what} has quantised weights ({kind}), and its gradient is needed; load it in float16, bfloat16 "
                "or float32."
            )


def clone_inference_tensors(value: Any) -> Any:
    """`value` with every tensor made under inference mode in it replaced by a copy that autograd can keep.

    Looks into dictionaries, lists and tuples.
    """
    if isinstance(value, torch.Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        return {key: clone_inference_tensors(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(clone_inference_tensors(item) for item in value)
    return value


@contextmanager
def gradients_enabled(modules: Iterable[torch.nn.Module], device: torch.device) -> Iterator[None]:
    """Leave inference mode and make `modules` differentiable on `device`, with activation checkpointing per block.

    Everything is restored on exit; weights stay where and what they are.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(_attribute_set(comfy.model_management, "in_training", True))  # fused kernels: no backward
        for module in modules:
            _copy_weights_in_use(module, device, stack)
            for block in blocks(module):
                stack.enter_context(_attribute_set(block, "forward", _checkpointed(block.forward)))
        yield


@contextmanager
def _attribute_set(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(holder).get(name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(holder, name)
        else:
            setattr(holder, name, before)


@contextmanager
def _entry_set(holder: dict, name: str, value: Any) -> Iterator[None]:
    before = holder[name]
    holder[name] = value
    try:
        yield
    finally:
        holder[name] = before


def _copy_weights_in_use(module: torch.nn.Module, device: torch.device, stack: ExitStack) -> None:
    """Weights that autograd may not keep (made under inference mode, or in a buffer that the next layer overwrites)
    are copied as they are used: the host's layers by its own hook for it, which a block's recomputation frees again.
    """
    for layer in module.modules():
        if not isinstance(layer, CastWeightBiasOp):
            for name, tensor in layer._parameters.items():
                if tensor is not None and tensor.is_inference():
                    stack.enter_context(_entry_set(layer._parameters, name, torch.nn.Parameter(tensor.clone(), False)))
        elif any(p is not None and (p.is_inference() or p.device != device) for p in layer._parameters.values()):
            for name in ("weight_function", "bias_function"):
                stack.enter_context(_attribute_set(layer, name, [*getattr(layer, name), torch.clone]))
        for name, tensor in layer._buffers.items():
            if tensor is not None and tensor.is_inference():
                stack.enter_context(_entry_set(layer._buffers, name, tensor.clone()))


def _checkpointed(forward: Callable) -> Callable:
    """`forward` that keeps its inputs alone and runs again when the gradient comes back."""

    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        # the host writes the place it is at into such dictionaries while it runs on
        copies = [dict(a) if isinstance(a, dict) else a for a in args]
        named = {k: dict(v) if isinstance(v, dict) else v for k, v in kwargs.items()}
        return checkpoint(forward, *copies, use_reentrant=False, preserve_rng_state=False, **named)

    return run


def levels(module: torch.nn.Module) -> list[list[torch.nn.Module]]:
    """For each entry of a network's outermost lists (a UNet's or decoder's levels, a transformer's layers) its blocks:
    the modules in it that are called as one.
    """
    entries: list[list[torch.nn.Module]] = []
    for child in module.children():
        if isinstance(child, torch.nn.ModuleList):
            entries += [_called_modules(entry) for entry in child]
        else:
            entries += levels(child)
    return [entry for entry in entries if entry]


def blocks(module: torch.nn.Module) -> list[torch.nn.Module]:
    """All blocks of `levels`."""
    return list(chain.from_iterable(levels(module)))


def _called_modules(entry: torch.nn.Module) -> list[torch.nn.Module]:
    container = isinstance(entry, (torch.nn.Sequential, torch.nn.ModuleList))
    if not container and type(entry).forward is not torch.nn.Module.forward:
        return [entry]
    return list(chain.from_iterable(_called_modules(child) for child in entry.children()))
