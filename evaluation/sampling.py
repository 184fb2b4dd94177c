"""DDIM on stacked views, with guidance, for whatever joins them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from ..safa_core import ViewPlan
from .model import PocketModel
from .protocol import Protocol

STREAMS = ("canvas", "reference", "steps")


def generator(stream: str, *numbers: int) -> torch.Generator:
    """Independent random numbers for every stream and combination of numbers."""
    state = np.random.SeedSequence([STREAMS.index(stream), *numbers]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


@dataclass
class Task:
    """A batch of canvases to be made.

    prompts: one per canvas. numbers: what each canvas's random numbers are derived from. recorded: canvases
    [B, C, F, L] before some steps, by step, where the protocol asks for them.
    """

    protocol: Protocol
    plan: ViewPlan
    prompts: list[str]
    numbers: list[tuple[int, ...]]
    recorded: dict[int, torch.Tensor] = field(default_factory=dict)

    def noise(self, stream: str, shape: tuple[int, ...]) -> torch.Tensor:
        """[B, *shape], each canvas's own: equal for all methods with canvases of this shape."""
        return torch.stack([torch.randn(shape, generator=generator(stream, *n)) for n in self.numbers])


def ddim_step(model: PocketModel, task: Task) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """`step` for safa_core.joint_denoise: one guided DDIM step (Song et al., 2020) of views [V, B, C, F, view]."""
    protocol, plan = task.protocol, task.plan
    model.scheduler.set_timesteps(protocol.steps)
    timesteps = model.scheduler.timesteps
    text, unguided = model.encode(task.prompts), model.encode([""])
    sources = [generator("steps", *numbers) for numbers in task.numbers]

    def step(views: torch.Tensor, k: int) -> torch.Tensor:
        if protocol.record and k % protocol.record == 0:
            task.recorded[k] = _canvas(views, plan)
        count = len(views)
        prompts = [part.repeat(count, *[1] * (part.ndim - 1)) for part in text]
        output = model.guided(views.flatten(0, 1), timesteps[k], prompts, unguided, protocol.guidance)
        noise = _step_noise(sources, views.shape, plan, protocol.noise).flatten(0, 1) if protocol.eta else None
        stepped = model.scheduler.step(
            output, timesteps[k], views.flatten(0, 1), eta=protocol.eta, variance_noise=noise
        ).prev_sample
        return stepped.unflatten(0, (count, -1))

    return step


def _canvas(views: torch.Tensor, plan: ViewPlan) -> torch.Tensor:
    """The canvas that views [V, B, C, F, view] were cut from."""
    canvas = views.new_empty(*views.shape[1:-1], plan.length)
    for i in range(len(plan)):
        canvas[..., plan.indices(i)] = views[i]
    return canvas


def _step_noise(sources, shape, plan: ViewPlan, kind: str) -> torch.Tensor:
    """Fresh noise for views of `shape` [V, B, C, F, view]; with kind "canvas" the views agree where they overlap."""
    if kind == "view":
        return torch.stack([torch.randn(shape[0], *shape[2:], generator=source) for source in sources], 1)
    canvas = torch.stack([torch.randn(*shape[2:-1], plan.length, generator=source) for source in sources])
    views = canvas[..., plan.columns.flatten()].unflatten(-1, plan.columns.shape).movedim(-2, 0)
    if shape[0] == len(plan):
        return views
    reference = torch.stack([torch.randn(shape[2:], generator=source) for source in sources])
    return torch.cat([views, reference[None]])
