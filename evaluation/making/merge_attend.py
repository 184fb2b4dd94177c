"""Merge-Attend-Diffuse (Quattrini et al., 2024): averaged views whose attention runs on the canvas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from ...safa_core import AverageJoin, ViewPlan, joint_denoise
from .merging import Merging
from .sampling import Task, ddim_step
from .window_model import WindowModel


@contextmanager
def merged(model: WindowModel, plan: ViewPlan, canvases: int) -> Iterator[Merging]:
    """The model with merging attention, and all windows of a step in one call."""
    rows = model.latent_shape(plan.view)[1]
    size = (plan.view, rows) if model.long_axis == 0 else (rows, plan.view)
    merging = model.merging(plan, size, model.long_axis)
    before = model.network.attn_processors
    batch = model.batch
    try:
        model.network.set_attn_processor({name: partial(merging.run, layer) for name, layer in before.items()})
        model.batch = 2 * len(plan) * canvases
        yield merging
    finally:
        model.network.set_attn_processor(before)
        model.batch = batch


@torch.inference_mode()
def generate(model: WindowModel, task: Task) -> torch.Tensor:
    """Final canvases [B, C, rows, columns]: averaged views whose attention merges in the early steps."""
    plan = task.plan
    canvas = task.start(model, "canvas", plan.length)
    step = ddim_step(model, task)
    with merged(model, plan, len(task.prompts)) as merging:

        def merged_step(views: torch.Tensor, k: int) -> torch.Tensor:
            merging.early = k < task.sampling.early_steps
            return step(views, k)

        return joint_denoise(merged_step, canvas, plan, task.sampling.steps, AverageJoin())[0]
