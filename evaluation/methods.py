"""The methods that are compared: a new one is a Method in METHODS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..safa_core import AverageJoin, ReferenceGuide, SwapJoin, TriangularJoin, joint_denoise
from ..safa_core.joins import Join
from . import mad
from .model import PocketModel
from .sampling import Task, ddim_step


@dataclass(frozen=True)
class Method:
    """generate(model, task) returns the final canvases [B, C, F, L]."""

    name: str
    title: str
    generate: Callable[[PocketModel, Task], torch.Tensor]


def joined(name: str, title: str, join: Callable[[int], Join], guided: bool = False) -> Method:
    """Algorithm 1 with a join operator, given the swap interval, and with or without the reference."""

    @torch.inference_mode()
    def generate(model: PocketModel, task: Task) -> torch.Tensor:
        protocol, plan = task.protocol, task.plan
        canvas = task.noise("canvas", model.latent_shape(plan.length)) * model.scheduler.init_noise_sigma
        guide = reference = None
        if guided:
            guide = ReferenceGuide(protocol.rate, protocol.interval, model.reference_axis)
            reference = task.noise("reference", model.latent_shape(plan.view)) * model.scheduler.init_noise_sigma
        step = ddim_step(model, task)
        return joint_denoise(step, canvas, plan, protocol.steps, join(protocol.interval), guide, reference)[0]

    return Method(name, title, generate)


METHODS = {
    method.name: method
    for method in (
        joined("single", "single windows", lambda interval: AverageJoin()),
        joined("safa", "SaFa", SwapJoin, guided=True),
        joined("swap", "SaFa* (no reference)", SwapJoin),
        joined("triangular", "triangular (MD*)", lambda interval: TriangularJoin()),
        joined("average", "average (MD)", lambda interval: AverageJoin()),
        Method("mad", "Merge-Attend-Diffuse (MAD)", mad.generate),
    )
}


def method(name: str) -> Method:
    """By name; ValueError for one that is not there."""
    if name not in METHODS:
        raise ValueError(f"Expected a method of {', '.join(METHODS)}, got {name!r}.")
    return METHODS[name]
