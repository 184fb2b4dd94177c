"""SyncDiffusion (Lee et al., 2023) on pictures: MultiDiffusion whose views follow the middle one by a gradient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ...safa_core import AverageJoin, joint_denoise
from ...safa_core.methods.perceptual import gram_distance, gram_matrix
from ...safa_core.methods.sync_diffusion import SyncSchedule, anchor_view, view_shifts
from ..sampling import Task, ddim_step
from ..scores.pictures import LPIPS
from .config import Row
from .image import ImageModel

METHODS = ("sync", "sync_gram")
WEIGHT, DECAY = 20.0, 0.95  # the authors', for LPIPS


def at_hand(row: Row, models: Path) -> Row:
    """A row of method "sync" with the distance that there are weights for; others as they are.

    Without LPIPS's backbone in the folder `models` views are compared by the Gram matrices of the VAE decoder's own
    features.
    """
    if row.method != "sync" or LPIPS.missing(models) is None:
        return row
    return replace(row, method="sync_gram", title=f"{row.title} (VAE features)")


def generate(model: ImageModel, task: Task, models: Path, method: str) -> torch.Tensor:
    """Final canvases [B, C, H, W]; the first `rate` of the steps have a gradient, method says of which distance."""
    protocol, plan = task.protocol, task.plan
    schedule = SyncSchedule(WEIGHT, DECAY, int(protocol.rate * protocol.steps + 0.5))
    anchor, measure = anchor_view(plan), _lpips(model, models) if method == "sync" else _gram(model)
    with torch.no_grad():
        canvas = task.noise("canvas", model.latent_shape(plan.length)) * model.scheduler.init_noise_sigma
        plain = ddim_step(model, task)
        text, unguided = model.encode(task.prompts), model.encode([""])

        def step(views, k):
            t, rate = model.scheduler.timesteps[k], schedule.at(k)

            def denoised(i, x):
                output = model.guided(x, t, text, unguided, protocol.guidance)
                return model.scheduler.step(output, t, x).pred_original_sample

            if rate:
                views = views + torch.stack(view_shifts(denoised, measure, list(views), anchor, rate))
            return plain(views, k)

        return joint_denoise(step, canvas, plan, protocol.steps, AverageJoin())[0]


def _lpips(model: ImageModel, models: Path):
    """Denoised latents of the anchor -> function of denoised latents, LPIPS of their pictures [B]."""
    network = LPIPS.open(models).network

    def against(latents):
        target = 2 * model.pictures(latents).clamp(0, 1) - 1  # as the authors: the anchor alone is clamped
        return lambda other: network(2 * model.pictures(other) - 1, target).flatten(1).sum(1)

    return against


def _gram(model: ImageModel):
    """The same by the features after each level of the VAE's decoder."""
    levels = model.vae.decoder.up_blocks

    def features(latents):
        found: list[torch.Tensor] = []
        hooks = [level.register_forward_hook(lambda _, given, out: found.append(out)) for level in levels]
        try:
            model.pictures(latents)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def against(latents):
        grams = [gram_matrix(level) for level in features(latents)]
        return lambda other: gram_distance(features(other), grams)

    return against
