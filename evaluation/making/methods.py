"""The methods that are compared: a new one is a function in METHODS."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ...safa_core import AverageJoin, ReferenceGuide, SwapJoin, TriangularJoin, joint_denoise
from ...safa_core.joins import Join
from . import merge_attend, sync_diffusion
from .sampling import Task, ddim_step
from .window_model import WindowModel

Method = Callable[[WindowModel, Task], torch.Tensor]


def joined(join: Callable[[int], Join], guided: bool = False) -> Method:
    """Algorithm 1 with a join operator, given the swap interval, and with or without the reference."""

    @torch.inference_mode()
    def generate(model: WindowModel, task: Task) -> torch.Tensor:
        sampling, plan = task.sampling, task.plan
        canvas = task.start(model, "canvas", plan.length)
        guide = reference = None
        if guided:
            guide = ReferenceGuide(sampling.rate, sampling.interval, model.reference_axis)
            reference = task.start(model, "reference", plan.view)
        step = ddim_step(model, task)
        return joint_denoise(step, canvas, plan, sampling.steps, join(sampling.interval), guide, reference)[0]

    return generate


METHODS: dict[str, Method] = {
    "single": joined(lambda interval: AverageJoin()),  # windows by themselves
    "safa": joined(SwapJoin, guided=True),
    "swap": joined(SwapJoin),  # SaFa*, the Self-Loop Swap alone
    "triangular": joined(lambda interval: TriangularJoin()),  # MD*
    "average": joined(lambda interval: AverageJoin()),  # MultiDiffusion
    "merge_attend": merge_attend.generate,
    "sync_diffusion": partial(sync_diffusion.generate, sync_diffusion.lpips_distance),
    "sync_diffusion_gram": partial(sync_diffusion.generate, sync_diffusion.gram_distance),
}


def method(name: str) -> Method:
    """By name; it returns the final canvases [B, C, rows, columns]. ValueError for one that is not there."""
    if name not in METHODS:
        raise ValueError(f"Expected a method of {', '.join(METHODS)}, got {name!r}.")
    return METHODS[name]
