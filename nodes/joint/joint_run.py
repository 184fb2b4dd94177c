"""One sampling with joint views: what is made once per run and used at every model call."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch

from ...safa_core import Join, ViewFold
from ..canvas import Canvas
from .finite import FiniteWatch
from .reference import NoReference, Reference
from .schedule import sampler_name
from .start import Start
from .view_conds import SPAN, ViewConds, size_to_views


class JointRun:
    """The views of one sampling: cut out of the state before the host's batch, joined again after it.

    canvas, join: the views and how they share the canvas.
    reference: `Reference`, which makes the state longer than the canvas, or `NoReference`.
    start:     what the host hands to this sampling.
    who:       the node's name in messages.
    """

    def __init__(self, canvas: Canvas, join: Join, reference: Reference | NoReference, start: Start, who: str):
        noise, plan = start.noise, canvas.plan
        self.reference, self.start, self.who = reference, start, who
        self.plan, self.axis = plan, canvas.axis_in(noise)
        self.model, self.calls = start.guider.inner_model, reference.calls
        weights = join.weights(plan, canvas.rows_in(noise))
        self.fold = ViewFold(plan, weights, noise.ndim, self.axis, noise.device, noise.dtype)
        self.watch = FiniteWatch(who, self.view_name)
        self.called = False
        one_view = plan.length == plan.view and len(plan) == 1
        spans = any(SPAN in cond for cond in chain.from_iterable(start.guider.conds.values()))
        self.whole = one_view and reference.windows == 0 and not spans  # the host's own batch is all there is to do
        first = plan.indices(0).to(noise.device)
        if not one_view:
            window = start.window(first, self.axis)
            size_to_views(start.guider.conds, self.model, noise.device, *window, start.seed, plan, canvas.scale)
        columns = torch.cat([self.fold.columns, first])
        self.views_of_conds = ViewConds(plan, noise.shape[2:], self.axis, columns, who)
        # columns of a state with a reference: the views side by side, then the reference
        last = plan.length + torch.arange(plan.view, device=noise.device)
        self.state_columns = torch.cat([self.fold.columns, last])

    def enter(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Before a model call at sigma [B]: the state as the model is to see it."""
        if x.shape != self.reference.inputs[0].shape:
            raise ValueError(
                f"{self.who}: the sampler {sampler_name(self.start.sampler)} changes the latent's size while it runs, "
                "and the plan is for one size; choose another sampler."
            )
        self.watch.check()
        return self.reference.enter(x, sigma)

    def leave(self, denoised: torch.Tensor) -> torch.Tensor:
        """After a model call, CFG and post-CFG functions: the prediction as the sampler is to see it."""
        if not self.called:  # ever: a cache may skip later calls
            raise ValueError(
                f"{self.who}: another node on this model replaces the host's batch of conditionings, so views "
                "cannot be cut; remove that node or the SaFa patch."
            )
        return self.reference.leave(denoised)

    def calc_cond_batch(
        self,
        executor: Callable,
        model: torch.nn.Module,
        conds: list[list[dict] | None],
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict,
    ) -> list[torch.Tensor]:
        """The host's batch, over all views side by side, joined again (Eq. 4)."""
        self.called = True
        if self.whole:
            outs = executor(model, conds, x, timestep, model_options)
            self._watch(conds, outs)
            return outs
        runs = self.reference.runs
        views = [self.views_of_conds.for_views(c, runs, timestep) for c in conds]
        windows = x.index_select(self.axis, self.state_columns) if runs else self.fold.gather(x)
        outs = executor(model, views, windows, timestep, model_options)
        self._watch(conds, outs)
        return [self._join(i, out, runs) for i, out in enumerate(outs)]

    def _watch(self, conds: list[list[dict] | None], outs: list[torch.Tensor]) -> None:
        for cond, out in zip(conds, outs, strict=True):
            if cond is not None:
                self.watch.note(out, self.axis, self.plan.view, self.calls.callbacks)

    def _join(self, i: int, out: torch.Tensor, with_reference: bool) -> torch.Tensor:
        last = out.narrow(self.axis, len(self.plan) * self.plan.view, self.plan.view) if with_reference else None
        return self.reference.join(i, self.fold.scatter(out), last)

    def view_name(self, i: int) -> str:
        """View `i` in messages; the reference comes after the last view."""
        if i == len(self.plan):
            return "the reference"
        start = self.plan.starts[i]
        return f"view {i + 1} of {len(self.plan)} (latent columns {start} to {start + self.plan.view - 1})"
