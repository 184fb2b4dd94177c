"""Subview Planner: from a length in people's units to a view plan and the empty latent for it."""

from __future__ import annotations

import math

import torch

import comfy.model_management
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ...safa_core import ViewPlan, plan_views
from ..canvas import Canvas, check_single
from ..errors import named
from ..node_text import show_preview
from ..sockets import CATEGORY, SaFaPlan
from .model_facts import ModelFacts, model_facts
from .plan_picture import plan_picture

NAME = "Subview Planner"
PAPER_VIEWS = {"pixels": 6, "seconds": 3}  # 512 x 3200 from six views, 24 s from three


class SaFaSubviewPlanner(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaSubviewPlanner",
            display_name=NAME,
            category=CATEGORY,
            description=(
                "Covers a wide picture or long sound with as few views of the model's own length as possible, and "
                "makes the empty latent for it."
            ),
            search_aliases=["safa", "swap forward", "panorama", "long audio", "empty latent", "views", "loop"],
            inputs=[
                io.Model.Input("model", tooltip="Tells pixels or seconds per latent column and the view's own length."),
                io.Float.Input(
                    "length",
                    default=0.0,
                    min=0.0,
                    max=1000000.0,
                    step=1.0,
                    round=0.001,
                    tooltip="Length of the canvas in `unit`, at least one view; rounded to whole latent columns. "
                    "0 = the paper's: six views for pictures, three for sound.",
                ),
                io.Combo.Input(
                    "unit",
                    options=["seconds", "pixels", "latent"],
                    default="pixels",
                    tooltip="What `length`, `view` and `height` are counted in: seconds for sound, pixels for "
                    "pictures, latent columns for both.",
                ),
                io.Float.Input(
                    "view",
                    default=0.0,
                    min=0.0,
                    max=1000000.0,
                    step=1.0,
                    round=0.001,
                    tooltip="Length of one view in `unit`. 0 = the model's own (512 px for SD1.5, 1024 px for SDXL, "
                    "47.6 s for Stable Audio Open). The paper uses 640 px with SD 2.",
                ),
                io.Float.Input(
                    "overlap",
                    default=0.2,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    tooltip="Least share of a view that its neighbour covers too, 0 to below 1. 0.2 for swapping, 0.8 "
                    "for averaging. Below 0.5 where a Reference Swap is used.",
                ),
                io.Boolean.Input(
                    "loop",
                    default=False,
                    tooltip="The end flows into the start: for endless sound and 360-degree pictures.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip="Height of a picture in pixels (latent rows with unit `latent`). 0 = the model's own. "
                    "Sound has none.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="Canvases made together."),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Plan for this latent instead of an empty one; `length`, `height` and `batch_size` then "
                    "come from it. A picture's longer side is its long axis.",
                ),
            ],
            outputs=[
                SaFaPlan.Output(
                    display_name="plan",
                    tooltip="The plan: for SaFa Sampler or SaFa Model Patch, decoders and reports.",
                ),
                io.Latent.Output(display_name="latent", tooltip="The empty canvas, or the connected latent."),
                io.Image.Output(display_name="preview", tooltip="The plan as a picture."),
                io.String.Output(display_name="info", tooltip="The plan in one line."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,  # its picture is there after every run, also where all results come from the cache
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        length: float,
        unit: str,
        view: float,
        overlap: float,
        loop: bool,
        height: int,
        batch_size: int,
        latent: dict | None = None,
    ) -> io.NodeOutput:
        roundings: list[str] = []
        with named(NAME):
            facts = model_facts(model)
            if not 0 <= overlap < 1:
                raise ValueError(f"expected `overlap` from 0 to below 1, got {overlap:g}.")
            # where nothing is typed, the unit's default need not be the model's
            scale = _scale(facts, unit) if length or view or height else facts.scale
            view_columns = _columns(view, scale, "view", unit, roundings) if view else facts.view
            if latent is None:
                if length:
                    columns = _columns(length, scale, "length", unit, roundings)
                else:
                    columns = _paper_length(facts, view_columns, overlap, loop)
                latent = _empty(facts, _rows(facts, height, unit, roundings), columns, batch_size)
                axis = _fixed_axis(facts, latent["samples"])
            else:
                axis = _long_axis(facts, latent["samples"])
            canvas = _plan(facts, latent["samples"].shape, axis, view_columns, overlap, loop)
        info = describe(canvas, facts, roundings)
        caption = "; ".join([*info.split("; ")[:2], *roundings])  # the page keeps the picture, not the node's text
        picture = plan_picture(canvas.plan, facts.scale, facts.unit, caption)
        preview = show_preview(cls, picture, info, describe_briefly(canvas, facts, roundings))
        return io.NodeOutput(canvas, latent, picture, info, ui=preview)


def _plan(facts: ModelFacts, shape: torch.Size, axis: int, view: int, overlap: float, loop: bool) -> Canvas:
    """The canvas of a latent of this shape, [B, C, ...]; refuses one that is shorter than a view (ValueError)."""
    columns = shape[axis]
    if columns < view:
        raise ValueError(
            f"the canvas is {_measure(columns, facts)} long, but one view is {_measure(view, facts)}; ask for at "
            "least one view, or set a smaller `view`."
        )
    return Canvas(plan_views(columns, view, overlap, loop), tuple(shape[1:]), axis, facts.unit, facts.scale)


def _scale(facts: ModelFacts, unit: str) -> float:
    """Units per latent column."""
    if unit == "latent":
        return 1.0
    if unit != facts.unit:
        raise ValueError(f"{facts.name} counts in {facts.unit}, but `unit` is {unit}; choose {facts.unit} or latent.")
    return facts.scale


def _columns(value: float, scale: float, name: str, unit: str, roundings: list[str]) -> int:
    """Whole latent columns for a length; a rounded one is noted in `roundings`."""
    if not value > 0 or math.isinf(value):
        raise ValueError(f"expected `{name}` above 0 {unit}, got {value:g}.")
    columns = round(value / scale)
    if columns < 1 or abs(columns * scale - value) > 1e-6 * value:
        roundings.append(f"{name} {value:g} rounded to {max(1, columns) * scale:.6g} {unit}")
    return max(1, columns)


def _paper_length(facts: ModelFacts, view: int, overlap: float, loop: bool) -> int:
    """Columns that this many views cover at exactly this overlap; at least one view's."""
    count = PAPER_VIEWS[facts.unit]
    shared = min(math.ceil(overlap * view - 1e-6), view - 1)  # as plan_views rounds
    return max(view, count * (view - shared) + (0 if loop else shared))


def _rows(facts: ModelFacts, height: int, unit: str, roundings: list[str]) -> int:
    if facts.audio:
        if height:
            raise ValueError(f"{facts.name} makes sound, which has no height; set `height` to 0, not {height}.")
        return facts.rows
    if not height:
        return facts.view
    return _columns(height, 1.0 if unit == "latent" else facts.scale, "height", unit, roundings)


def _empty(facts: ModelFacts, rows: int, columns: int, batch_size: int) -> dict:
    shape = {
        1: [batch_size, facts.channels, columns],
        2: [batch_size, facts.channels, rows, columns],
        3: [batch_size, facts.channels, 1, rows, columns],
    }[facts.dimensions]
    if facts.axis is not None:
        shape[facts.axis], shape[-1] = shape[-1], shape[facts.axis]
    samples = torch.zeros(
        shape,
        device=comfy.model_management.intermediate_device(),
        dtype=comfy.model_management.intermediate_dtype(),
    )
    return {"samples": samples, **({"type": "audio"} if facts.audio else {})}


def _long_axis(facts: ModelFacts, samples: torch.Tensor) -> int:
    """The dimension of [B, C, ...] that is long; refuses what this model cannot sample (ValueError)."""
    check_single(samples)
    dimensions = {facts.dimensions + 2, 4 if facts.dimensions > 1 else 3}
    if samples.shape[1] != facts.channels or samples.ndim not in dimensions:
        raise ValueError(
            f"{facts.name} needs a latent of {facts.channels} channels and {facts.dimensions} dimensions more, "
            f"got {list(samples.shape)}; use an empty latent for this model or leave `latent` free."
        )
    if facts.audio or samples.shape[-1] >= samples.shape[-2]:
        return _fixed_axis(facts, samples)
    return samples.ndim - 2


def _fixed_axis(facts: ModelFacts, samples: torch.Tensor) -> int:
    return samples.ndim - 1 if facts.axis is None else facts.axis


def _length(columns: int, facts: ModelFacts) -> str:
    return f"{columns * facts.scale:.5g} {'s' if facts.audio else 'px'}"


def _measure(columns: int, facts: ModelFacts) -> str:
    return f"{_length(columns, facts)} ({columns} latent columns)"


def _across(canvas: Canvas, facts: ModelFacts) -> str:
    return "" if facts.audio else f" x {canvas.rows * facts.scale:.5g} px"


def _overlaps(plan: ViewPlan) -> str:
    """The overlaps as shares of a view."""
    shares = [overlap / plan.view for overlap in plan.overlaps] or [0.0]
    return f"{min(shares):.1%}" + (f" to {max(shares):.1%}" if max(shares) > min(shares) else "")


def describe(canvas: Canvas, facts: ModelFacts, roundings: list[str]) -> str:
    """The plan in one line: views, share of overlap, model windows per step, MultiDiffusion's at its overlap of 0.8."""
    plan = canvas.plan
    rival = len(plan_views(plan.length, plan.view, 0.8, plan.loop))
    plural = "s" if len(plan) > 1 else ""
    parts = [
        f"{len(plan)} view{plural} of {_measure(plan.view, facts)} on "
        f"{_measure(plan.length, facts)}{_across(canvas, facts)}{', loop' if plan.loop else ''}",
        f"overlap {_overlaps(plan)}",
        f"{len(plan)} model window{plural} per step ({len(plan) + 1} with a Reference Swap; each twice with CFG), "
        f"MultiDiffusion at overlap 0.8 needs {rival}",
    ]
    return "; ".join([*parts, *roundings])


def describe_briefly(canvas: Canvas, facts: ModelFacts, roundings: list[str]) -> str:
    """The plan for the node itself, where ComfyUI's page has room for two lines; roundings come before the second."""
    plan = canvas.plan
    plural = "s" if len(plan) > 1 else ""
    size = f"{_length(plan.length, facts)}{_across(canvas, facts)}{', loop' if plan.loop else ''}"
    return "\n".join(
        [
            f"{len(plan)} view{plural} of {_length(plan.view, facts)} on {size}",
            *roundings,
            f"overlap {_overlaps(plan)}; {len(plan)} window{plural} per step",
        ]
    )
