"""ControlNet hints per view: the host would give every view the centre of the whole hint."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch

import comfy.utils
from comfy.controlnet import ControlBase, broadcast_image_to

from ...safa_core import ViewPlan

Places = dict[Any, tuple[int, tuple[int, ...]]]  # cond's uuid -> (view, area in the host's form)


class ViewControl:
    """A host control that gives each view its own piece of the hint (and of its mask); chained controls too.

    It stands in for the control in the conds of all views, so that the host still runs views together. The weights
    are shared, and nothing of the control changes.

    control: comfy.controlnet.ControlBase, already prepared for the run. dims: canvas latent size. axis: long axis in
    [B, C, ...]. places: filled by the caller, (view, area in the host's form) of every cond by its uuid.
    """

    def __init__(self, control: ControlBase, plan: ViewPlan, dims: Sequence[int], axis: int, places: Places):
        self.control, self.plan, self.places = control, plan, places
        self.axis = axis - len(dims) - 2  # from the end, as hints have no time
        self.hints = {id(c): _canvas_hints(c, dims) for c in _chain(control)}
        self.batches: dict[tuple, ControlBase] = {}
        self.on_device = {d: ViewControl(c, plan, dims, axis, places) for d, c in control.multigpu_clones.items()}

    def get_instance_for_device(self, device: torch.device) -> ViewControl:
        return self.on_device.get(device, self)

    def get_control(
        self, x_noisy: torch.Tensor, t: torch.Tensor, cond: Any, batched_number: int, transformer_options: dict
    ) -> Any:
        """The host's call for a batch of conds, whose uuids lead to their views."""
        places = tuple(self.places[u] for u in transformer_options["uuids"])
        each = x_noisy.shape[0] // batched_number
        if (places, each) not in self.batches:
            if len(self.batches) > 2 * len(self.plan):  # free memory changes, and with it what the host runs together
                self.batches.clear()
            self.batches[places, each] = self._cut(self.control, places, each)
        return self.batches[places, each].get_control(x_noisy, t, cond, batched_number, transformer_options)

    def _cut(self, control: ControlBase, places: tuple, each: int) -> ControlBase:
        """A copy of the control with the hints of these places, `each` times."""
        cut = copy.copy(control)
        (hint, *extra), ratio = self.hints[id(control)]
        cut.cond_hint_original = None if hint is None else self._pieces(hint, ratio, places, each)
        cut.extra_concat_orig = [self._pieces(e, ratio, places, each) for e in extra]
        cut.cond_hint = None
        if hasattr(cut, "control_input"):  # T2I adapters keep their output for the whole run
            cut.control_input = None
        cut.multigpu_clones = {}
        if control.previous_controlnet is not None:
            cut.previous_controlnet = self._cut(control.previous_controlnet, places, each)
        return cut

    def _pieces(self, hint: torch.Tensor, ratio: int, places: tuple, each: int) -> torch.Tensor:
        pieces = []
        for view, area in places:
            columns = self.plan.starts[view] * ratio + torch.arange(self.plan.view * ratio)
            piece = hint.index_select(self.axis, (columns % (self.plan.length * ratio)).to(hint.device))
            across = -3 - self.axis
            size, offset = area[: len(area) // 2][across], area[len(area) // 2 :][across]
            piece = piece.narrow(across, offset * ratio, size * ratio)
            pieces.append(piece.expand(each, -1, -1, -1) if len(piece) == 1 else broadcast_image_to(piece, each, 1))
        return torch.cat(pieces)


def _chain(control: ControlBase | None) -> Iterator[ControlBase]:
    """The control and those before it."""
    while control is not None:
        yield control
        control = control.previous_controlnet


def _canvas_hints(control: ControlBase, dims: Sequence[int]) -> tuple[list[torch.Tensor], int]:
    """The control's hint and what is concatenated to it, at the canvas's size in pixels; and the pixels per latent."""
    ratio = control.compression_ratio
    if control.vae is not None:
        ratio *= control.vae.spacial_compression_encode()
    hints = [control.cond_hint_original, *control.extra_concat_orig]
    width, height = dims[-1] * ratio, dims[-2] * ratio
    sized = [
        h if h is None else comfy.utils.common_upscale(h, width, height, control.upscale_algorithm, "center")
        for h in hints
    ]
    return sized, ratio
