"""DDIM on stacked views, with guidance, for whatever joins them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ...safa_core import ViewPlan
from ...safa_core.guide import guided_steps
from .window_model import WindowModel

STREAMS = ("canvas", "reference", "steps")
NOISE = ("view", "canvas")


@dataclass(frozen=True)
class Sampling:
    """How a canvas is sampled. ValueError for values that mean nothing.

    steps, guidance: DDIM's steps and the classifier-free guidance scale.
    eta:      of DDIM; above 0 every step adds noise.
    noise:    that noise is drawn for every "view", as Algorithm 1 has it with the whole step inside the view, or once
              for the "canvas".
    rate:     share of the early steps that have the method's own: SaFa's reference, Merge-Attend-Diffuse's merging,
              SyncDiffusion's gradient.
    interval: of the swaps, in columns or rows.
    record:   the canvas is kept before every `record`-th step; 0 for none.
    """

    steps: int
    guidance: float
    eta: float = 0.0
    noise: str = "view"
    rate: float = 0.3
    interval: int = 1
    record: int = 0

    def __post_init__(self):
        for name in ("steps", "interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` of at least 1, got {getattr(self, name)}.")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"Expected `eta` in [0, 1], got {self.eta}.")
        if self.noise not in NOISE:
            raise ValueError(f"Expected `noise` to be one of {', '.join(NOISE)}, got {self.noise!r}.")

    @property
    def early_steps(self) -> int:
        """How many steps have the method's own."""
        return guided_steps(self.rate, self.steps)


def generator(stream: str, *numbers: int) -> torch.Generator:
    """Independent random numbers for every stream and combination of numbers."""
    state = np.random.SeedSequence([STREAMS.index(stream), *numbers]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


@dataclass
class Task:
    """A batch of canvases to be made.

    prompts:  one per canvas. numbers: what each canvas's random numbers are derived from.
    device:   where the noise is wanted. weights: ComfyUI's models folder, for methods with a network of their own.
    recorded: canvases [B, C, rows, columns] before some steps, by step, where the sampling records them.
    """

    sampling: Sampling
    plan: ViewPlan
    prompts: list[str]
    numbers: list[tuple[int, ...]]
    device: torch.device = torch.device("cpu")
    weights: Path | None = None
    recorded: dict[int, torch.Tensor] = field(default_factory=dict)

    def noise(self, stream: str, shape: tuple[int, ...]) -> torch.Tensor:
        """[B, *shape], each canvas's own: equal for all methods with canvases of this shape."""
        drawn = [torch.randn(shape, generator=generator(stream, *numbers)) for numbers in self.numbers]
        return torch.stack(drawn).to(self.device)

    def start(self, model: WindowModel, stream: str, columns: int) -> torch.Tensor:
        """Initial noise [B, C, rows, columns] in the scale of the model's scheduler."""
        return self.noise(stream, model.latent_shape(columns)) * model.scheduler.init_noise_sigma


def ddim_step(model: WindowModel, task: Task) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """`step` for safa_core.joint_denoise: one guided step (DDIM: Song et al., 2020) of views [V, B, C, rows, view]."""
    sampling = task.sampling
    model.scheduler.set_timesteps(sampling.steps)
    timesteps = model.scheduler.timesteps
    text = model.encode(task.prompts)
    unguided = model.encode([""])
    sources = [generator("steps", *numbers) for numbers in task.numbers]

    def step(views: torch.Tensor, k: int) -> torch.Tensor:
        if sampling.record and k % sampling.record == 0:
            task.recorded[k] = _canvas(views, task.plan)
        rows = views.flatten(0, 1)
        prompts = [part.repeat(len(views), *[1] * (part.ndim - 1)) for part in text]
        output = model.guided(rows, timesteps[k], prompts, unguided, sampling.guidance)
        noise = _step_noise(sources, views.shape, task.plan, sampling.noise).flatten(0, 1) if sampling.eta else None
        stepped = model.scheduler.step(output, timesteps[k], rows, eta=sampling.eta, variance_noise=noise)
        return stepped.prev_sample.unflatten(0, (len(views), -1))

    return step


def _canvas(views: torch.Tensor, plan: ViewPlan) -> torch.Tensor:
    """The canvas that views [V, B, C, rows, view] were cut from."""
    canvas = views.new_empty(*views.shape[1:-1], plan.length)
    for i in range(len(plan)):
        canvas[..., plan.indices(i)] = views[i]
    return canvas


def _step_noise(sources, shape: torch.Size, plan: ViewPlan, kind: str) -> torch.Tensor:
    """Fresh noise for views of `shape` [V, B, C, rows, view]; with kind "canvas" views agree where they overlap."""
    if kind == "view":
        return torch.stack([torch.randn(shape[0], *shape[2:], generator=source) for source in sources], 1)
    canvas = torch.stack([torch.randn(*shape[2:-1], plan.length, generator=source) for source in sources])
    views = canvas[..., plan.columns.flatten()].unflatten(-1, plan.columns.shape).movedim(-2, 0)
    if shape[0] == len(plan):
        return views
    reference = torch.stack([torch.randn(shape[2:], generator=source) for source in sources])
    return torch.cat([views, reference[None]])
