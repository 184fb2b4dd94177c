"""One sampling with joint views: what is made once per run and used at every model call."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from itertools import chain

import torch

from ...safa_core import Join, ViewFold
from ...safa_core.fold import stack_views
from ..canvas import Canvas
from ..errors import named
from .finite import FiniteWatch
from .held_pictures import HeldPictures
from .host_batch import CondLists, HostBatch
from .other_nodes import UNFIT, CallerError, culprit
from .reference import NoReference, Reference
from .regions import SPAN
from .schedule import sampler_name
from .start import Start
from .view_conds import Group, ViewConds
from .windows import Chosen, Windows

TOGETHER = "safa_together"  # in model_options: windows of one call, where a method needs all of them in it


class JointRun:
    """The views of one sampling: cut out of the canvas for the host's batch, joined again after it.

    canvas, join: the views and how they share the canvas.
    reference: `Reference`, which makes the state longer than the canvas, or `NoReference`.
    start:     what the host hands to this sampling.
    who:       the node's name in messages.

    most:    windows that one call of the model may have.
    running: the windows of the call that runs now.
    """

    def __init__(self, canvas: Canvas, join: Join, reference: Reference | NoReference, start: Start, who: str):
        noise, plan = start.noise, canvas.plan
        self.reference, self.start, self.who = reference, start, who
        self.canvas, self.plan, self.axis = canvas, plan, canvas.axis_in(noise)
        self.model, self.calls = start.guider.inner_model, reference.calls
        weights = join.weights(plan, canvas.rows_in(noise))
        self.fold = ViewFold(plan, weights, noise.ndim, self.axis, noise.device, noise.dtype)
        self.watch = FiniteWatch(who, self.view_name)
        self.called = False
        self.most = most_together(start.options, math.prod(canvas.view_shape(noise.shape)))
        self.running: Chosen = ()
        one_view = plan.length == plan.view and len(plan) == 1
        spans = any(SPAN in cond for cond in chain.from_iterable(start.guider.conds.values()))
        self.whole = one_view and reference.windows == 0 and not spans  # the host's own batch is all there is to do
        pixels = self.model.latent_format.spacial_downscale_ratio
        self.windows = Windows(plan, noise.shape, self.axis, pixels)
        self.conds = ViewConds(self.windows, start, canvas)
        self._windows = tuple(range(len(plan) + 1))
        self.pictures = HeldPictures(self.windows)
        # columns of a state with a reference: each view's, then the reference's own after the canvas
        own = plan.length + torch.arange(plan.view)
        self._state_columns = torch.cat([plan.columns, own.unsqueeze(0)]).to(noise.device)
        self._columns: dict[Chosen, torch.Tensor] = {}

    # ---- Around the sampler's model calls ----

    def predict(
        self, executor: Callable, x: torch.Tensor, timestep: torch.Tensor, model_options: dict, seed: int | None
    ) -> torch.Tensor:
        """One guided prediction of the sampler's state."""
        if x.shape != self.reference.inputs[0].shape:
            raise ValueError(
                f"{self.who}: the sampler {sampler_name(self.start.sampler)} changes the latent's size while it runs, "
                "and the plan is for one size; choose another sampler."
            )
        self.watch.check()

        def guide(part: torch.Tensor, options: dict) -> torch.Tensor:
            return executor(part, timestep, options, seed)

        denoised = self.reference.predict(guide, self.reference.enter(x, timestep), model_options)
        if not self.called:  # ever: a cache may skip later calls
            raise ValueError(
                f"{self.who}: another node on this model replaces the host's batch of conditionings, so views "
                "cannot be cut; remove that node or the SaFa patch."
            )
        return denoised

    def close(self) -> None:
        """After the sampling, however it ended."""
        self.conds.controls.close()

    # ---- The host's batch ----

    def calc_cond_batch(self, host: HostBatch, x: torch.Tensor) -> list[torch.Tensor]:
        """The host's batch for x, over all windows, joined again (Eq. 4)."""
        self.called = True
        if self.whole:
            self.running = (0,)
            return self._noted(host.conds, host.run(host.conds, x, 1, host.options))
        call = self.reference.call
        if call.of_reference:
            return self._of_reference(host, x)
        if x.shape[2:] != self.start.noise.shape[2:]:
            raise CallerError(_of_another_size(x, self.start.noise))
        together = call.runs and x is call.canvas and host.options is call.options
        windows = self._windows[: len(self.plan) + (1 if together else 0)]
        predictions = self._predictions(host, call.state if together else x, windows)
        if together:
            call.keep(host, [None if c is None else predictions[i].last() for i, c in enumerate(host.conds)])
        # a long canvas's predictions are not kept beside what guidance and sampler make of it
        return [
            torch.zeros_like(x) if c is None else self.fold.scatter(predictions.pop(i).beside)
            for i, c in enumerate(host.conds)
        ]

    def _predictions(self, host: HostBatch, source: torch.Tensor, windows: Chosen) -> dict[int, Predictions]:
        """Of the i-th list of conds, the predictions of these windows of a canvas or a state.

        Some nodes' functions inside the network take one picture alone (USO's style): where one fails with several
        windows, they run one by one from then on.
        """
        try:
            return self._predict_groups(host, source, windows)
        except UNFIT as error:
            function = culprit(error, host.options)
            if function is None or self.most == 1:
                raise
            self.most = 1
            try:
                predictions = self._predict_groups(host, source, windows)
            except UNFIT:
                raise error from None
        logging.warning(f"{self.who}: {function} takes no batch of views; they run one by one, which is slower.")
        return predictions

    def _predict_groups(self, host: HostBatch, source: torch.Tensor, windows: Chosen) -> dict[int, Predictions]:
        predictions: dict[int, Predictions] = {}
        for group in self.groups(host, windows):
            for i, out in enumerate(self.run(host, group, self.cut(source, group.windows))):
                if host.conds[i] is not None:
                    if i not in predictions:
                        predictions[i] = Predictions(out, self.axis, len(windows), len(source))
                    predictions[i].put(group.windows, out)
        return predictions

    def _of_reference(self, host: HostBatch, x: torch.Tensor) -> list[torch.Tensor]:
        """The reference's predictions: of this very call, made together with the views, or now."""
        call = self.reference.call
        known = call.kept(host) if x is call.reference and host.options is call.options else None
        if known is not None:
            return [torch.zeros_like(x) if out is None else out for out in known]
        if x.shape[2:] != call.reference.shape[2:]:
            raise CallerError(_of_another_size(x, call.reference))
        (group,) = self.groups(host, (self.windows.reference,))
        return self.run(host, group, x)

    def groups(self, host: HostBatch, windows: Chosen) -> list[Group]:
        """The calls of the host's batch for these windows."""
        options = host.options.get("transformer_options", {})
        # AnimateDiff-Evolved ("ad_params"): the batch is time
        most = 1 if "ad_params" in options or self.pictures.any_in(host.options) else self.most
        with named(self.who):
            return self.conds.groups(host.model, host.conds, windows, most, host.free_memory)

    def cut(self, source: torch.Tensor, windows: Chosen) -> torch.Tensor:
        """Windows of a canvas or a state [B, C, ...] as one batch [windows * B, C, ..., view]."""
        if windows not in self._columns:
            self._columns[windows] = self._state_columns[list(windows)].flatten()
        return stack_views(source.index_select(self.axis, self._columns[windows]), self.axis, len(windows))

    def run(self, host: HostBatch, group: Group, batch: torch.Tensor) -> list[torch.Tensor]:
        """The host's batch for the windows of a group."""
        if self.running not in ((), group.windows):  # patches such as Flux KV Cache keep what they saw of a batch
            host.model.current_patcher.model_patches_call_function("cleanup")
        self.running = group.windows
        options = self.pictures.options_for(host.options, group.windows)
        return self._noted(group.conds, host.run(group.conds, batch, len(group.windows), options))

    def _noted(self, conds: CondLists, outs: list[torch.Tensor]) -> list[torch.Tensor]:
        for cond, out in zip(conds, outs, strict=True):
            if cond is not None:
                self.watch.note(out, self.running, self.calls.callbacks)
        return outs

    def view_name(self, i: int) -> str:
        """View `i` in messages; the reference comes after the last view."""
        if i == len(self.plan):
            return "the reference"
        return f"view {i + 1} of {len(self.plan)} ({self.canvas.place_of(i)})"


class Predictions:
    """The predictions of all windows by one list of conds.

    beside: side by side, [B, C, ..., windows * view]. slots: the same memory, [windows, B, C, ..., view].
    """

    def __init__(self, out: torch.Tensor, axis: int, windows: int, batch: int):
        shape = [batch, *out.shape[1:]]
        shape[axis] *= windows
        self.beside = out.new_empty(shape)
        self.slots = self.beside.unflatten(axis, (windows, -1)).movedim(axis, 0)

    def put(self, windows: Chosen, out: torch.Tensor) -> None:
        """Keep the predictions of some windows, [windows * B, ...]."""
        first, last = windows[0], windows[-1]
        in_a_row = last - first + 1 == len(windows)
        place = slice(first, last + 1) if in_a_row else list(windows)
        self.slots[place] = out.unflatten(0, (len(windows), -1))

    def last(self) -> torch.Tensor:
        """A copy of the last window's, [B, ...]."""
        return self.slots[-1].clone()


def _of_another_size(x: torch.Tensor, expected: torch.Tensor) -> str:
    return f"a prediction of {list(x.shape[2:])} latents was asked for, expected {list(expected.shape[2:])}"


def most_together(model_options: dict, values: int) -> int:
    """Windows of so many values that one call has at most: more make no model faster, but take memory."""
    return model_options.get(TOGETHER) or min(max(2**20 // values, 8), 256)
