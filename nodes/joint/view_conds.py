"""Conditioning per view, in the host's own terms: each cond once per view, with the view as its area.

Views (and the reference, last) stand side by side along the long axis. The host batches such conds by free memory,
spreads them over GPUs, applies hooks and normalises regional masks within each view, all by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import torch

from comfy.conds import CONDNoiseShape
from comfy.sampler_helpers import convert_cond
from comfy.samplers import add_area_dims, encode_model_conds

from ...safa_core import ViewPlan
from .view_control import Places, ViewControl
from .view_times import times_of_views

SPAN = "safa_span"  # cond key: (first, last) canvas column, last excluded; views centred in it take the cond
REFERENCE = "safa_reference"  # cond key: this cond is the reference's alone
TIMES = "safa_times"  # cond key: `times_of_views`
REFERENCE_CONTROL = "safa_reference_control"  # cond key: what the reference gets in place of the cond's control


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


def size_to_views(
    conds: dict[str, list[dict]],
    model: torch.nn.Module,
    device: torch.device,
    noise: torch.Tensor,
    latent: torch.Tensor,
    mask: torch.Tensor | None,
    seed: int | None,
    plan: ViewPlan,
    scale: float,
) -> None:
    """Encode conds again for one view's size (SDXL's width and height), keeping what belongs to canvas places.

    conds: the guider's processed conds by name, changed in place. noise, latent, mask: one view's.
    scale: seconds (sound) or pixels per latent column.
    """
    for name, processed in conds.items():
        encode = _encoder(model, device, name, noise, latent, mask, seed)
        sized = encode(processed)
        encoded: dict[tuple, tuple[dict, list[dict]]] = {}
        for whole, view in zip(processed, sized, strict=True):
            times = times_of_views(whole, plan, scale, encode)
            # to a positive with an area the host adds a negative that is a copy of it, but for what was encoded
            origin = encoded.setdefault(tuple(map(id, whole["model_conds"].values())), (view["model_conds"], times))
            view["model_conds"], view[TIMES] = origin
            for key, value in whole["model_conds"].items():
                if isinstance(value, CONDNoiseShape) and REFERENCE not in whole:
                    view["model_conds"][key] = value
        conds[name] = sized


def _encoder(
    model: torch.nn.Module,
    device: torch.device,
    name: str,
    noise: torch.Tensor,
    latent: torch.Tensor,
    mask: torch.Tensor | None,
    seed: int | None,
) -> Callable[[list[dict]], list[dict]]:
    """The host's encoding of a list of conds for a sampling of this size."""

    def encode(conds: list[dict]) -> list[dict]:
        return encode_model_conds(
            model.extra_conds,
            conds[:],
            noise,
            device,
            name,
            latent_image=latent,
            denoise_mask=mask,
            seed=seed,
            latent_shapes=[noise.shape],
        )

    return encode


def _due(cond: dict, timestep: torch.Tensor) -> bool:
    """Whether the host runs a cond at this sigma."""
    return cond.get("timestep_end", 0.0) <= timestep[0] <= cond.get("timestep_start", torch.inf)


class ViewConds:
    """Turns the host's cond lists into lists for all views.

    plan:    ViewPlan.
    dims:    the canvas latent's dimensions without batch and channels.
    axis:    its long axis, counted in [B, C, ...].
    columns: canvas column of every side-by-side column, the reference's (if any) taken from the first view.
    who:     the node's name in messages.
    """

    def __init__(self, plan: ViewPlan, dims: Sequence[int], axis: int, columns: torch.Tensor, who: str):
        self.plan, self.dims, self.axis, self.columns, self.who = plan, tuple(dims), axis, columns, who
        # uuid of a view's cond -> (uuid of the cond it was made of, view)
        self.origins: dict[uuid.UUID, tuple[uuid.UUID, int]] = {}
        self._lists: dict[tuple, tuple[list[dict], list[dict]]] = {}
        self._controls: dict[int, ViewControl] = {}
        self._places: Places = {}

    def for_views(self, conds: list[dict] | None, with_reference: bool, timestep: torch.Tensor) -> list[dict] | None:
        """The conds of one list (positive, negative, ...) for every view; made once per list.

        timestep: [B], the sigma of this model call. Which conds are due at it decides what is left to the "default"
        ones.
        """
        if conds is None:
            return None
        due = [c for c in conds if _due(c, timestep)] if any("default" in c for c in conds) else conds
        key = (tuple(map(id, due)), with_reference)
        if key not in self._lists:
            if len(self._lists) > 32:  # a node that builds new conds every step
                self._lists.clear()
            self._check_spans([c for c in conds if REFERENCE not in c])
            self._lists[key] = (due[:], self._build(due, with_reference))
        return self._lists[key][1]

    def _build(self, conds: list[dict], with_reference: bool) -> list[dict]:
        canvas = [c for c in conds if REFERENCE not in c]
        masks = [self._side_by_side_mask(c) for c in canvas]
        self._fill_defaults(canvas, masks)
        # the reference first: EasyCache goes by the last cond, and the reference runs only as long as it guides
        out = [self._for_reference(c) for c in self._reference_conds(conds)] if with_reference else []
        for cond, mask in zip(canvas, masks, strict=True):
            placed = self._place(cond, mask)
            seen = mask.unflatten(self.axis - 1, (-1, self.plan.view)).movedim(self.axis - 1, 0).flatten(1).any(1)
            out += [self._for_view(placed, i) for i in range(len(self.plan)) if seen[i]]
        return out

    def _in_span(self, cond: dict, i: int) -> bool:
        """Whether view `i` is centred in the cond's span."""
        if SPAN not in cond:
            return True
        first, last = cond[SPAN]
        offset = self.plan.starts[i] + self.plan.view / 2 - first
        return 0 <= (offset % self.plan.length if self.plan.loop else offset) < last - first

    def _check_spans(self, conds: list[dict]) -> None:
        """Refuse spans that leave a view without any prompt (ValueError)."""
        for i in range(len(self.plan)):
            if conds and not any(self._in_span(c, i) for c in conds):
                first = self.plan.starts[i]
                raise ValueError(
                    f"{self.who}: no prompt is for view {i + 1} of {len(self.plan)} (latent columns {first} to "
                    f"{first + self.plan.view - 1}), whose middle lies in none of the prompts' spans; let the spans "
                    "cover the canvas, or add a prompt without a span."
                )

    def _area(self, cond: dict) -> list[tuple[int, int]]:
        """(first, last excluded) of the cond's area on the canvas, per dimension."""
        if "area" not in cond:
            return [(0, d) for d in self.dims]
        area = add_area_dims(list(cond["area"]), len(self.dims))
        sizes, offsets = area[: len(self.dims)], area[len(area) // 2 :]
        box = [(o, min(o + s, d)) for s, o, d in zip(sizes, offsets, self.dims, strict=False)]
        if any(first >= last for first, last in box):
            raise ValueError(
                f"{self.who}: a prompt's area begins at latent {list(offsets)}, outside the canvas of "
                f"{list(self.dims)}; move the area or plan a larger canvas."
            )
        return box

    def _side_by_side_mask(self, cond: dict) -> torch.Tensor:
        """The cond's mask, area and span as one mask on all views, [b, ...side by side].

        A view keeps the model's length, so an area that covers part of it masks the prediction instead of cutting
        the view; the host's soft edge of 8 latents stays where the user drew the area.
        """
        device = self.columns.device
        mask = cond["mask"] if "mask" in cond else torch.ones((1, *self.dims), device=device)
        mask = mask.expand(-1, *self.dims)
        if "area" in cond:
            mask = mask * self._soft_area(cond, device)
        mask = mask.index_select(self.axis - 1, self.columns[: len(self.plan) * self.plan.view])
        return mask * self._span_mask(cond)

    def _span_mask(self, cond: dict) -> torch.Tensor:
        in_span = torch.tensor([self._in_span(cond, i) for i in range(len(self.plan))], device=self.columns.device)
        shape = [-1 if d == self.axis - 2 else 1 for d in range(len(self.dims))]
        return in_span.repeat_interleave(self.plan.view).reshape(shape)

    def _soft_area(self, cond: dict, device: torch.device) -> torch.Tensor:
        soft = torch.zeros(self.dims, device=device)
        box = self._area(cond)
        inside = torch.ones([last - first for first, last in box], device=device)
        for d, (first, last) in enumerate(box):
            if "mask" in cond:
                break
            edge = min(8, (last - first) // 4)
            ramp = torch.arange(1, edge + 1, device=device) / max(edge, 1)
            shape = [-1 if i == d else 1 for i in range(len(box))]
            if first != 0:
                inside.narrow(d, 0, edge).mul_(ramp.reshape(shape))
            if last < self.dims[d]:
                inside.narrow(d, last - first - edge, edge).mul_(ramp.flip(0).reshape(shape))
        soft[tuple(slice(first, last) for first, last in box)] = inside
        return soft

    def _fill_defaults(self, conds: list[dict], masks: list[torch.Tensor]) -> None:
        """Give the host's "default" conds the places that no other cond claims."""
        if not any("default" in c for c in conds):
            return
        claimed = sum(
            m * c.get("mask_strength", 1.0) * c.get("strength", 1.0)
            for c, m in zip(conds, masks, strict=True)
            if "default" not in c
        )
        for i, cond in enumerate(conds):
            if "default" in cond:
                masks[i] = torch.relu(1.0 - claimed) * self._span_mask(cond)
                conds[i] = {k: v for k, v in cond.items() if k not in ("default", "mask_strength", "strength", "area")}

    def _place(self, cond: dict, mask: torch.Tensor) -> dict:
        """The cond laid out side by side; a view is then only an area of it."""
        placed = {k: v for k, v in cond.items() if k not in ("area", SPAN)}
        placed["safa_box"] = self._area(cond)
        placed["mask"] = mask
        placed["model_conds"] = {
            k: CONDNoiseShape(self._side_by_side(v.cond)) if isinstance(v, CONDNoiseShape) else v
            for k, v in cond["model_conds"].items()
        }
        return placed

    def _side_by_side(self, noise_like: torch.Tensor) -> torch.Tensor:
        """A canvas-sized or (a cond of the reference's own) view-sized tensor on all views."""
        if noise_like.shape[self.axis] == self.plan.length:
            return noise_like.index_select(self.axis, self.columns)
        return noise_like.repeat([len(self.plan) + 1 if d == self.axis else 1 for d in range(noise_like.ndim)])

    def _window(self, cond: dict, i: int, box: list[tuple[int, int]]) -> dict:
        sizes, offsets = [b - a for a, b in box], [a for a, _ in box]
        sizes[self.axis - 2], offsets[self.axis - 2] = self.plan.view, i * self.plan.view
        # stable from step to step, and another one per view: caches such as EasyCache's key on it
        name = uuid.uuid5(cond["uuid"], f"view {i}")
        self.origins[name] = (cond["uuid"], i)
        kept = {k: v for k, v in cond.items() if k not in ("safa_box", TIMES)}
        return {**kept, "model_conds": self._timed(cond, i), "area": (*sizes, *offsets), "uuid": name}

    def _timed(self, cond: dict, i: int) -> dict:
        """The cond's model conds with what differs in view `i`; the reference's are the first view's."""
        if not cond.get(TIMES):
            return cond["model_conds"]
        times = cond[TIMES][i % len(self.plan)].items()
        return {**cond["model_conds"], **{k: v for k, v in times if not isinstance(v, CONDNoiseShape)}}

    def _for_view(self, placed: dict, i: int) -> dict:
        out = self._window(placed, i, placed["safa_box"])
        if "control" in placed:
            control = placed["control"]
            if id(control) not in self._controls:
                self._controls[id(control)] = ViewControl(control, self.plan, self.dims, self.axis, self._places)
            self._places[out["uuid"]] = (i, out["area"])
            out["control"] = self._controls[id(control)]
        if "gligen" in placed:
            out["gligen"] = self._shifted_boxes(placed["gligen"], i)
        return out

    def _shifted_boxes(self, gligen: tuple, i: int) -> tuple:
        kind, model, boxes = gligen
        if kind != "position":
            return gligen
        moved = []
        for embedding, height, width, y, x in boxes:
            size, at = [height, width], [y, x]
            along = self.axis - len(self.dims)
            start = (at[along] - self.plan.starts[i] + size[along]) % self.plan.length - size[along]
            first, last = max(0, start), min(self.plan.view, start + size[along])
            if first < last:
                size[along], at[along] = last - first, first
                moved.append((embedding, *size, *at))
        return ("position", model, moved) if moved else ("empty", model, [])

    def _reference_conds(self, conds: list[dict]) -> list[dict]:
        """The conds of the reference: its own, else those that mean the whole canvas, else all of them."""
        for_it = [c for c in conds if REFERENCE in c]
        everywhere = [c for c in conds if not {SPAN, "area", "mask", "default"} & c.keys()]
        return for_it or everywhere or conds

    def _for_reference(self, cond: dict) -> dict:
        mask = torch.ones((1, *self.dims), device=self.columns.device)
        ones = mask.index_select(self.axis - 1, self.columns)
        dropped = {"area", SPAN, REFERENCE, "default", "mask_strength"}
        if REFERENCE not in cond:  # a hint belongs to a place on the canvas
            dropped |= {"control", "gligen"}
        cond = {k: v for k, v in cond.items() if k not in dropped}
        if REFERENCE_CONTROL in cond:
            cond["control"] = cond.pop(REFERENCE_CONTROL)
        placed = self._place(cond, ones)
        return self._window(placed, len(self.plan), placed["safa_box"])
