"""SyncDiffusion (Lee et al., 2023) on pictures: MultiDiffusion whose views follow the middle one by a gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ...safa_core import AverageJoin, joint_denoise
from ...safa_core.methods import perceptual
from ...safa_core.methods.sync_diffusion import SyncSchedule, anchor_view, view_shifts
from ..scores.pictures import LPIPS
from .image import ImageModel
from .sampling import Task, ddim_step

WEIGHT, DECAY = 20.0, 0.95  # the authors', for LPIPS
# Denoised latents of the anchor -> function of denoised latents, a distance [B]
Distance = Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]


def generate(distance: Callable[[ImageModel, Path], Distance], model: ImageModel, task: Task) -> torch.Tensor:
    """Final canvases [B, C, H, W]; the early steps have a gradient of the distance between views."""
    sampling, plan = task.sampling, task.plan
    schedule = SyncSchedule(WEIGHT, DECAY, sampling.early_steps)
    anchor = anchor_view(plan)
    distance_to = distance(model, task.weights)
    with torch.no_grad():
        canvas = task.start(model, "canvas", plan.length)
        plain = ddim_step(model, task)
        text = model.encode(task.prompts)
        unguided = model.encode([""])

        def step(views: torch.Tensor, k: int) -> torch.Tensor:
            t = model.scheduler.timesteps[k]
            weight = schedule.at(k)

            def denoised(i: int, x: torch.Tensor) -> torch.Tensor:
                output = model.guided(x, t, text, unguided, sampling.guidance)
                return model.scheduler.step(output, t, x).pred_original_sample

            if weight:
                views = views + torch.stack(view_shifts(denoised, distance_to, list(views), anchor, weight))
            return plain(views, k)

        return joint_denoise(step, canvas, plan, sampling.steps, AverageJoin())[0]


def lpips_distance(model: ImageModel, weights: Path) -> Distance:
    """LPIPS of the decoded pictures, both clamped to 0 ... 1, as the authors' `decode_latents` does."""
    network = LPIPS.open(weights).network

    def picture(latents: torch.Tensor) -> torch.Tensor:
        return 2 * model.pictures(latents).clamp(0, 1) - 1

    def distance_to(anchor: torch.Tensor):
        target = picture(anchor)
        return lambda other: network(picture(other), target).flatten(1).sum(1)

    return distance_to


def gram_distance(model: ImageModel, weights: Path) -> Distance:
    """Gram matrices of the features after each level of the VAE's decoder: needs no weights but the VAE's."""
    levels = model.vae.decoder.up_blocks

    def features(latents: torch.Tensor) -> list[torch.Tensor]:
        outputs: list[torch.Tensor] = []
        hooks = [level.register_forward_hook(lambda _, inputs, output: outputs.append(output)) for level in levels]
        try:
            model.pictures(latents)
        finally:
            for hook in hooks:
                hook.remove()
        return outputs

    def distance_to(anchor: torch.Tensor):
        grams = [perceptual.gram_matrix(level) for level in features(anchor)]
        return lambda other: perceptual.gram_distance(features(other), grams)

    return distance_to
