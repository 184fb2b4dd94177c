"""Merge-Attend-Diffuse (Quattrini et al., 2024) on diffusers' UNets, and on others by a Merging of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch

from ..safa_core import AverageJoin, ViewPlan, joint_denoise
from ..safa_core.methods.merge_attend import CanvasTokens, token_plan
from .model import PocketModel
from .sampling import Task, ddim_step


@dataclass
class Merging:
    """An attention processor around each layer's own, for calls whose rows are [2, views, canvases], 2 of guidance.

    Self-attention runs on the canvas while `early` is set, queries of cross-attention are merged always. What enters
    to_q, to_k and to_v is merged in place of what leaves them: they are affine maps of single tokens.

    size: a view's latent as the network has it. axis: which of the two is the long one.
    """

    plan: ViewPlan
    size: tuple[int, int]
    axis: int = 0
    early: bool = True
    tokens: dict[int, CanvasTokens] = field(default_factory=dict)

    def on(self, states: torch.Tensor) -> CanvasTokens:
        """Merging at the level of the network that has the tokens of `states` [N, tokens, C] per view."""
        count = states.shape[1]
        if count not in self.tokens:
            factor = round((self.size[0] * self.size[1] / count) ** 0.5)
            grid = (self.size[0] // factor, self.size[1] // factor)
            self.tokens[count] = CanvasTokens(token_plan(self.plan, factor), grid, self.axis, states.device)
        return self.tokens[count]

    def views(self, states: torch.Tensor) -> torch.Tensor:
        """Rows of a call [2 * views * canvases, ...] -> [views, 2 * canvases, ...]."""
        return states.unflatten(0, (2, len(self.plan), -1)).transpose(0, 1).flatten(1, 2)

    def rows(self, views: torch.Tensor) -> torch.Tensor:
        """The inverse of `views`."""
        return views.unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 2)

    def run(self, own, attn, states, encoder_hidden_states=None, attention_mask=None, **more):
        """The processor: own is the layer's."""
        cross = encoder_hidden_states is not None
        if not cross and not self.early:
            return own(attn, states, None, attention_mask, **more)
        tokens = self.on(states)
        canvas = tokens.merge(self.views(states).float()).to(states.dtype)
        if not cross:
            canvas = own(attn, canvas, None, attention_mask, **more)
        views = self.rows(tokens.crop(canvas))
        return own(attn, views, encoder_hidden_states, attention_mask, **more) if cross else views


@contextmanager
def merged(model: PocketModel, plan: ViewPlan, size: tuple[int, int], canvases: int) -> Iterator[Merging]:
    """The model with merging attention, and all windows of a step in one call."""
    merging, own = getattr(model, "merging", Merging)(plan, size, model.long_axis), model.network.attn_processors
    batch = model.batch
    try:
        model.network.set_attn_processor({name: partial(merging.run, before) for name, before in own.items()})
        model.batch = 2 * len(plan) * canvases
        yield merging
    finally:
        model.network.set_attn_processor(own)
        model.batch = batch


@torch.inference_mode()
def generate(model: PocketModel, task: Task) -> torch.Tensor:
    """Final canvases [B, C, F, L]: averaged views whose attention merges in the first `rate` of the steps."""
    protocol, plan = task.protocol, task.plan
    shape = model.latent_shape(plan.length)
    canvas = task.noise("canvas", shape) * model.scheduler.init_noise_sigma
    size = (plan.view, shape[1]) if model.long_axis == 0 else (shape[1], plan.view)
    step = ddim_step(model, task)
    with merged(model, plan, size, len(task.prompts)) as merging:

        def merged_step(views, k):
            merging.early = k < int(protocol.rate * protocol.steps + 0.5)
            return step(views, k)

        return joint_denoise(merged_step, canvas, plan, protocol.steps, AverageJoin())[0]
