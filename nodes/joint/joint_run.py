"""One sampling with joint views: what is made once per run and used at every model call."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch

import comfy.model_management

from ...safa_core import Join, ViewFold
from ...safa_core.fold import stack_views
from ..canvas import Canvas
from .finite import FiniteWatch
from .held_pictures import HeldPictures
from .other_nodes import CallerError
from .reference import NoReference, Reference
from .regions import SPAN
from .schedule import sampler_name
from .start import Start
from .view_conds import TOGETHER, CondLists, Group, ViewConds
from .windows import Chosen, Windows


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
        self.plan, self.axis = plan, canvas.axis_in(noise)
        self.model, self.calls = start.guider.inner_model, reference.calls
        weights = join.weights(plan, canvas.rows_in(noise))
        self.fold = ViewFold(plan, weights, noise.ndim, self.axis, noise.device, noise.dtype)
        self.watch = FiniteWatch(who, self.view_name)
        self.called = False
        self.most = TOGETHER
        self.running: Chosen = ()
        one_view = plan.length == plan.view and len(plan) == 1
        spans = any(SPAN in cond for cond in chain.from_iterable(start.guider.conds.values()))
        self.whole = one_view and reference.windows == 0 and not spans  # the host's own batch is all there is to do
        pixels = self.model.latent_format.spacial_downscale_ratio
        self.windows = Windows(plan, noise.shape, self.axis, pixels)
        self.conds = ViewConds(self.windows, start, canvas.scale)
        self.pictures = HeldPictures(self.windows)
        # columns of a state with a reference: each view's, then the reference's own after the canvas
        own = plan.length + torch.arange(plan.view)
        self._columns = torch.cat([plan.columns, own.unsqueeze(0)]).to(noise.device)
        self._predictions: dict[int, torch.Tensor] = {}  # of each list of conds: all windows side by side

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

    def calc_cond_batch(
        self,
        executor: Callable,
        model: torch.nn.Module,
        conds: CondLists,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict,
    ) -> list[torch.Tensor]:
        """The host's batch, over all windows, joined again (Eq. 4)."""
        self.called = True
        call = self.reference.call
        if self.whole:
            outs = executor(model, conds, x, timestep, model_options)
            self._watch(conds, outs)
            return outs
        if call.of_reference:
            return self._of_reference(executor, model, conds, x, timestep, model_options)
        self._check_canvas(x)
        together = call.runs and x is call.canvas and model_options is call.options
        windows = tuple(range(len(self.plan) + together))
        source = call.state if together else x
        for group in self.groups(model, conds, windows, model_options):
            batch = self.cut(source, group.windows)
            outs = self.run(executor, group, model, batch, timestep, model_options)
            for i, out in enumerate(outs):
                self._slots(i, out, len(group.windows))[_index(group.windows)] = out.unflatten(0, (-1, len(x)))
        canvases = [torch.zeros_like(x) if c is None else self._join(i, len(windows)) for i, c in enumerate(conds)]
        if together:
            lasts = [None if c is None else self._slots(i)[-1].clone() for i, c in enumerate(conds)]
            call.keep(model, conds, lasts)
        return canvases

    def _check_canvas(self, x: torch.Tensor) -> None:
        expected, given = list(self.windows.dims), list(x.shape[2:])
        if given != expected:
            raise CallerError(f"a prediction of {given} latents was asked for, but the canvas is {expected}")

    def _of_reference(
        self,
        executor: Callable,
        model: torch.nn.Module,
        conds: CondLists,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict,
    ) -> list[torch.Tensor]:
        """The reference's predictions: of this very call, made together with the views, or now."""
        call = self.reference.call
        known = call.kept(model, conds) if x is call.reference and model_options is call.options else None
        if known is not None:
            return [torch.zeros_like(x) if out is None else out for out in known]
        if x.shape[2:] != call.reference.shape[2:]:
            raise CallerError(
                f"a prediction of {list(x.shape[2:])} latents was asked for, but the reference is "
                f"{list(call.reference.shape[2:])}"
            )
        (group,) = self.groups(model, conds, (self.windows.reference,), model_options)
        return self.run(executor, group, model, x, timestep, model_options)

    def groups(self, model: torch.nn.Module, conds: CondLists, windows: Chosen, model_options: dict) -> list[Group]:
        options = model_options.get("transformer_options", {})
        # AnimateDiff-Evolved: the batch is time
        alone = "ad_params" in options or self.pictures.any_in(options)
        memory = self._free_memory(model, model_options)
        try:
            return self.conds.groups(model, conds, windows, memory, 1 if alone else self.most)
        except ValueError as error:
            raise ValueError(f"{self.who}: {error}") from error

    def _free_memory(self, model: torch.nn.Module, model_options: dict) -> float:
        devices = model_options.get("multigpu_clones")
        if devices:
            return min(comfy.model_management.get_free_memory(device) for device in devices)
        return model.current_patcher.get_free_memory(self.start.noise.device)

    def cut(self, source: torch.Tensor, windows: Chosen) -> torch.Tensor:
        """Windows of a canvas or a state [B, C, ...] as one batch [windows * B, C, ..., view]."""
        columns = self._columns[_index(windows)].flatten()
        return stack_views(source.index_select(self.axis, columns), self.axis, len(windows))

    def run(
        self,
        executor: Callable,
        group: Group,
        model: torch.nn.Module,
        batch: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict,
    ) -> list[torch.Tensor]:
        options = self.pictures.options_for(model_options, group.windows)
        self.running = group.windows
        return executor(model, group.conds, batch, timestep.repeat(len(group.windows)), options)

    def _slots(self, i: int, out: torch.Tensor | None = None, windows: int = 1) -> torch.Tensor:
        """The predictions by the i-th list of conds, [views + 1, B, C, ..., view]; made to fit a call's output."""
        if out is not None:
            shape = [len(out) // windows, *out.shape[1:]]
            shape[self.axis] *= len(self._columns)
            known = self._predictions.get(i)
            if known is None or list(known.shape) != shape or known.dtype != out.dtype:
                self._predictions[i] = out.new_zeros(shape)
        return self._predictions[i].unflatten(self.axis, (-1, self.plan.view)).movedim(self.axis, 0)

    def _join(self, i: int, windows: int) -> torch.Tensor:
        beside, view = self._predictions[i], self.plan.view
        self.watch.note(beside.narrow(self.axis, 0, windows * view), self.axis, view, self.calls.callbacks)
        return self.fold.scatter(beside)

    def _watch(self, conds: CondLists, outs: list[torch.Tensor]) -> None:
        for cond, out in zip(conds, outs, strict=True):
            if cond is not None:
                self.watch.note(out, self.axis, self.plan.view, self.calls.callbacks)

    def view_name(self, i: int) -> str:
        """View `i` in messages; the reference comes after the last view."""
        if i == len(self.plan):
            return "the reference"
        start = self.plan.starts[i]
        return f"view {i + 1} of {len(self.plan)} (latent columns {start} to {start + self.plan.view - 1})"


def _index(windows: Chosen) -> slice | list[int]:
    """Windows as an index: those in a row need no copy."""
    first, last = windows[0], windows[-1]
    return slice(first, last + 1) if last - first + 1 == len(windows) else list(windows)
