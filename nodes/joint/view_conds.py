"""Conditioning for batches of windows: each cond of the host once, with all that lies on the canvas cut by one rule.

Windows whose conds are of one kind (the same shapes, areas, hooks, times, ...) run together; a prompt of its own for
every view is then only a batch of prompts. Hooks, times, regional masks and defaults stay the host's.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import Any

import torch

from comfy.conds import CONDConstant, CONDList, CONDRegular
from comfy.sampler_helpers import convert_cond

from ..canvas import Canvas
from .host_batch import CondLists
from .regions import SPAN, area_rows, check_spans, in_span, mask_of, shifted_boxes, views_seen
from .start import Start
from .view_control import ViewControls, is_video
from .view_encoding import ViewEncoding
from .windows import Chosen, Windows, split_evenly

REFERENCE = "safa_reference"  # cond key: this cond is the reference's alone
REFERENCE_CONTROL = "safa_reference_control"  # cond key: what the reference gets in place of the cond's control
CUT = {"model_conds", "mask", "area", "gligen", SPAN, REFERENCE, REFERENCE_CONTROL}  # cond keys that `Piece` replaces
OF_REFERENCE = CUT | {"default", "mask_strength"}  # and what would leave part of the reference without a prompt
# model conds with which the host's networks take no batch: SVD's is time, and HunyuanVideo writes into a shared tensor
ONE_BY_ONE = {"num_video_frames", "ref_latent"}
PLAIN = str | int | float | bool | None


def add_reference_prompt(conds: dict[str, list[dict]], prompt: list) -> None:
    """Add the reference's own prompt, a host CONDITIONING, to the guider's conds by name.

    The host would apply its control to the canvas's negative (Apply ControlNet without "Advanced" asks for that).
    """
    entries = convert_cond(prompt)
    hints = [c["control"] for c in entries if c.get("control_apply_to_uncond")]
    if hints:
        for name in conds.keys() - {"positive"}:
            conds[name] = [{**c, REFERENCE_CONTROL: hints[-1]} for c in conds[name]]
    conds["positive"] = conds["positive"] + [{**c, REFERENCE: True, "control_apply_to_uncond": False} for c in entries]


@dataclass(frozen=True, eq=False)
class Piece:
    """One cond as one window gets it, not yet cut.

    cond:   what the host reads besides the below.
    values: its model conds.
    mask:   on the canvas, [b, ...], or None.
    kind:   pieces of one kind can run as one cond.
    """

    cond: dict
    values: dict[str, CONDRegular]
    mask: torch.Tensor | None
    kind: tuple


Pieces = list[list[Piece]]  # of every window, those of one list of conds in the list's order


@dataclass(frozen=True)
class Group:
    """Windows that run in one call of the host's, and their conds list by list."""

    windows: Chosen
    conds: list[list[dict] | None]


class ViewConds:
    """Turns the host's lists of conds into lists for groups of windows.

    windows: where the views lie. start: what the host hands to this sampling. canvas: their Canvas.
    """

    def __init__(self, windows: Windows, start: Start, canvas: Canvas):
        self.windows, self.canvas, self.device = windows, canvas, start.noise.device
        self.encoding = ViewEncoding(windows, start, canvas.scale)
        self.controls = ViewControls(windows)
        # by the identity of lists and model; each keeps what its key names
        self._pieces: dict[tuple, tuple[list[dict], Pieces]] = {}
        self._groups: dict[tuple, tuple[list, list[Group]]] = {}

    # ---- Groups ----

    def groups(
        self,
        model: torch.nn.Module,
        lists: CondLists,
        windows: Chosen,
        most: int,
        free_memory: Callable[[], float],
    ) -> list[Group]:
        """The calls for these windows; made once, with the memory that is free then, so that their shapes stay.

        most: windows that one call may have.
        """
        key = (id(model), *(None if c is None else tuple(map(id, c)) for c in lists), len(windows), windows[0], most)
        if key not in self._groups:
            if len(self._groups) > 16:  # a node that builds new conds every step
                self._groups.clear()
            pieces = [None if c is None else self._pieces_of(model, c) for c in lists]
            fit = self._fitting(model, pieces, windows[0], free_memory())
            kept = [None if c is None else c[:] for c in lists]  # an id is one's own only as long as one lives
            self._groups[key] = (kept, list(self._build(model, pieces, windows, fit, most)))
        return self._groups[key][1]

    def _fitting(self, model: torch.nn.Module, pieces: Sequence[Pieces | None], window: int, memory: float) -> int:
        """How many windows fit, by the host's own measure for one cond each."""
        counted: dict[str, list] = {}
        for of_windows in pieces:
            for piece in of_windows[window] if of_windows else ():
                for name in piece.values.keys() & set(model.memory_usage_factor_conds):
                    counted.setdefault(name, []).append(piece.values[name].size())
        shape = [self.windows.batch, self.windows.channels, *self.windows.view_dims]
        return max(1, int(memory / (1.5 * model.memory_required(shape, cond_shapes=counted))))

    def _build(
        self, model: torch.nn.Module, pieces: Sequence[Pieces | None], windows: Chosen, fit: int, most: int
    ) -> Iterator[Group]:
        alike: dict[tuple, list[int]] = {}
        for i in windows:
            kinds = tuple(None if of_windows is None else _kinds(of_windows[i]) for of_windows in pieces)
            alike.setdefault(kinds, []).append(i)
        for kinds, together in alike.items():
            lanes = sum(len(of_list) for of_list in kinds if of_list is not None)
            for part in split_evenly(together, fit, lanes, most):
                yield Group(part, [p if p is None else self._conds_of(model, p, part) for p in pieces])

    def _conds_of(self, model: torch.nn.Module, pieces: Pieces, windows: Chosen) -> list[dict]:
        lanes = zip(*(pieces[i] for i in windows), strict=True)
        return [self._join(model, lane, windows) for lane in lanes]

    # ---- Pieces of every window ----

    def _pieces_of(self, model: torch.nn.Module, conds: list[dict]) -> Pieces:
        key = (id(model), *map(id, conds))
        if key not in self._pieces:
            if len(self._pieces) > 32:
                self._pieces.clear()
            self._pieces[key] = (conds[:], self._all_pieces(model, conds) if conds else self._no_pieces())
        return self._pieces[key][1]

    def _no_pieces(self) -> Pieces:
        return [[] for _ in range(self.windows.reference + 1)]

    def _all_pieces(self, model: torch.nn.Module, conds: list[dict]) -> Pieces:
        plan, pieces = self.windows.plan, self._no_pieces()
        on_canvas = [REFERENCE not in c for c in conds]
        canvas = [c for c in conds if REFERENCE not in c]
        check_spans(canvas, self.canvas)
        encoded = dict(zip(map(id, conds), self.encoding.encode(model, conds, on_canvas), strict=True))
        masks = {id(c): mask_of(c, self.windows, self.device) for c in canvas}
        drawn = {key: mask for key, mask in masks.items() if mask is not None}
        seen = dict(zip(drawn, views_seen(list(drawn.values()), self.windows), strict=True))
        for cond in canvas:
            shared: dict[int, Piece] = {}  # views with equal values share a piece
            for i in range(len(plan)):
                if in_span(cond, plan, i) and (id(cond) not in seen or seen[id(cond)][i]):
                    values = encoded[id(cond)].of(i)
                    pieces[i].append(self._piece(cond, values, masks[id(cond)], i, shared))
        for cond in _of_reference(conds):
            pieces[-1].append(self._reference_piece(cond, encoded[id(cond)].of(self.windows.reference)))
        return pieces

    def _piece(self, cond: dict, values: dict, mask: torch.Tensor | None, i: int, shared: dict[int, Piece]) -> Piece:
        if "gligen" not in cond and id(values) in shared:
            return shared[id(values)]
        kept = {key: value for key, value in cond.items() if key not in CUT}
        area = None if "default" in cond else area_rows(cond, self.windows)
        if area is not None:
            kept["area"] = area
        if "gligen" in cond:
            kept["gligen"] = shifted_boxes(cond["gligen"], self.windows, i)
        alone = self._alone(kept, values)
        piece = Piece(kept, values, mask, (*self._kind(kept, values), i if alone else None))
        if not alone:
            shared[id(values)] = piece
        return piece

    def _reference_piece(self, cond: dict, values: dict) -> Piece:
        kept = {key: value for key, value in cond.items() if key not in OF_REFERENCE}
        if REFERENCE not in cond:  # a hint belongs to a place on the canvas
            kept.pop("control", None)
        elif "gligen" in cond:
            kept["gligen"] = cond["gligen"]
        if REFERENCE_CONTROL in cond:
            kept["control"] = cond[REFERENCE_CONTROL]
        # a control of its own has a hint of one view's size, which nothing cuts
        alone = self.windows.reference if "control" in kept or self._alone(kept, values) else None
        return Piece(kept, values, None, (*self._kind(kept, values), alone))

    def _alone(self, kept: dict, values: dict) -> bool:
        """Whether a window must run by itself: where the batch is time, or boxes and frames are for one picture."""
        position = kept.get("gligen", ("",))[0] == "position"
        return position or not ONE_BY_ONE.isdisjoint(values) or ("control" in kept and is_video(kept["control"]))

    def _kind(self, kept: dict, values: dict) -> tuple:
        """What pieces of one batch have in common: the shapes of their values, and what the host reads besides."""
        shapes = frozenset((name, *self._shapes(value)) for name, value in values.items())
        read = {key: _plain(value) for key, value in kept.items() if isinstance(value, PLAIN)}
        objects = {key: id(kept[key]) for key in ("control", "hooks") if key in kept}
        return (shapes, frozenset(read.items()), frozenset(objects.items()), kept.get("area"), "gligen" in kept)

    def _shapes(self, value: CONDRegular) -> tuple:
        if isinstance(value, CONDConstant):
            return (_plain(value.cond),)
        if isinstance(value, CONDList):
            return tuple(self._shape(part, self.windows.zoom_of(part)) for part in value.cond)
        return (type(value), self._shape(value.cond, self.encoding.zoom_of(value)))

    def _shape(self, tensor: torch.Tensor, zoom: Fraction | int | None) -> tuple:
        """Shape and type of a tensor once it is cut."""
        shape = [tensor.dtype, *tensor.shape[1:]]
        if zoom is not None:
            shape[self.windows.from_end] = self.windows.columns_at(zoom)
        return tuple(shape)

    # ---- One cond for the windows of a group ----

    def _join(self, model: torch.nn.Module, pieces: tuple[Piece, ...], windows: Chosen) -> dict:
        """The host's cond for a batch of windows, each with its piece."""
        cond = dict(pieces[0].cond)
        # stable from step to step, and another one per group: caches such as EasyCache's key on it
        texts = dict.fromkeys(str(piece.cond["uuid"]) for piece in pieces)
        cond["uuid"] = uuid.uuid5(pieces[0].cond["uuid"], f"{windows} {' '.join(texts)}")
        cond["model_conds"] = {
            name: self._join_values([piece.values[name] for piece in pieces], windows) for name in pieces[0].values
        }
        if any(piece.mask is not None for piece in pieces):
            everywhere = torch.ones((1, *self.windows.view_dims), device=self.device)
            masks = [everywhere if piece.mask is None else piece.mask for piece in pieces]
            cond["mask"] = self._join_tensors(masks, windows, lambda mask: None if mask is everywhere else 1)
        if "control" in cond and windows != (self.windows.reference,):
            cond["control"] = self.controls.for_windows(model, cond["control"], windows)
        return cond

    def _join_values(self, values: list[CONDRegular], windows: Chosen) -> CONDRegular:
        first = values[0]
        if isinstance(first, CONDConstant):
            return first
        if isinstance(first, CONDList):
            parts = zip(*(value.cond for value in values), strict=True)
            return first._copy_with([self._join_tensors(list(part), windows, self.windows.zoom_of) for part in parts])
        zooms = {id(value.cond): self.encoding.zoom_of(value) for value in values}
        tensors = [value.cond for value in values]
        return first._copy_with(self._join_tensors(tensors, windows, lambda tensor: zooms[id(tensor)]))

    def _join_tensors(
        self, tensors: list[torch.Tensor], windows: Chosen, zoom_of: Callable[[torch.Tensor], Fraction | int | None]
    ) -> torch.Tensor:
        """[windows * B, ...]: each window's piece of its tensor; what is the same everywhere stays as it is."""
        alone, parts, done = len(windows) == 1, [], 0
        for _, run in groupby(tensors, id):
            same = list(run)
            zoom, count = zoom_of(same[0]), len(same)
            if zoom is not None:
                parts.append(self.windows.cut(same[0], windows[done : done + count], zoom, alone))
            elif count == len(windows):
                return same[0] if alone else self.windows.spread(same[0], count)
            else:
                parts.append(self.windows.repeat(same[0], count))
            done += count
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def _kinds(pieces: list[Piece]) -> tuple:
    return tuple(piece.kind for piece in pieces)


def _of_reference(conds: list[dict]) -> list[dict]:
    """The conds of the reference: its own, else those that mean the whole canvas, else all of them."""
    for_it = [c for c in conds if REFERENCE in c]
    everywhere = [c for c in conds if not {SPAN, "area", "mask", "default"} & c.keys()]
    return for_it or everywhere or conds


def _plain(value: Any) -> Any:
    """What tells values of conds apart: themselves where they are plain, else which object they are."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value if isinstance(value, PLAIN) else id(value)
