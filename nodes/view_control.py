"""ControlNet hints per view: the host would give every view the centre of the whole hint."""

from __future__ import annotations

import copy

import torch

import comfy.utils


def view_controls(control, plan, dims, axis: int) -> list:
    """One copy of a host control per view, with the hint (and its mask) cut to the view; chained controls too.

    control: comfy.controlnet.ControlBase, already prepared for the run. dims: canvas latent size; axis: long axis in
    [B, C, ...]. The copies share the weights; nothing of `control` changes.
    """
    hints = _canvas_hints(control, dims)
    return [_cut(control, hints, plan, i, axis - len(dims) - 2) for i in range(len(plan))]


def _chain(control):
    """The control, those before it, and their copies on other GPUs."""
    while control is not None:
        yield control
        yield from control.multigpu_clones.values()
        control = control.previous_controlnet


def _canvas_hints(control, dims) -> dict[int, tuple[list[torch.Tensor], int]]:
    """Every hint in the chain at the canvas's size in pixels, and the pixels per latent, by the control's id."""
    return {id(c): _canvas_hint(c, dims) for c in _chain(control)}


def _canvas_hint(control, dims):
    ratio = control.compression_ratio
    if control.vae is not None:
        ratio *= control.vae.spacial_compression_encode()
    hints = [control.cond_hint_original, *control.extra_concat_orig]
    width, height = dims[-1] * ratio, dims[-2] * ratio
    sized = [
        h if h is None else comfy.utils.common_upscale(h, width, height, control.upscale_algorithm, "center")
        for h in hints
    ]
    return sized, ratio


def _cut(control, hints, plan, i: int, axis: int):
    own = copy.copy(control)
    (hint, *extra), ratio = hints[id(control)]
    pixels = (plan.starts[i] * ratio + torch.arange(plan.view * ratio)) % (plan.length * ratio)
    own.cond_hint_original = None if hint is None else hint.index_select(axis, pixels.to(hint.device))
    own.extra_concat_orig = [e.index_select(axis, pixels.to(e.device)) for e in extra]
    own.cond_hint = None
    if hasattr(own, "control_input"):  # T2I adapters keep their output for the whole run
        own.control_input = None
    if control.previous_controlnet is not None:
        own.previous_controlnet = _cut(control.previous_controlnet, hints, plan, i, axis)
    own.multigpu_clones = {d: _cut(c, hints, plan, i, axis) for d, c in control.multigpu_clones.items()}
    return own
