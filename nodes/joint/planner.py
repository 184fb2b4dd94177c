"""Subview Planner: from a length in people's units to a view plan and the empty latent for it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...safa_core import ViewPlan, plan_views
from ...safa_core.plan import least_overlap
from ..canvas import Canvas
from ..errors import named
from ..node_text import show_preview
from ..sockets import CATEGORY, SEARCH_WORDS, SaFaPlan
from .empty_latent import empty_latent, empty_shape, fit_latent
from .model_facts import ModelFacts, model_facts
from .plan_picture import plan_picture
from .plan_text import describe, describe_briefly
from .size_nodes import view_size

NAME = "Subview Planner"
MOST_VIEWS, MOST_COLUMNS = 2**17, 2**22  # of all views together: what is planned and drawn within two seconds
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
            search_aliases=["safa", "swap forward", "empty latent", "views", *SEARCH_WORDS],
            inputs=[
                io.Model.Input("model", tooltip="Tells pixels or seconds per latent column and the view's own length."),
                io.Float.Input(
                    "length",
                    default=0.0,
                    min=0.0,
                    max=1000000.0,
                    step=1.0,
                    round=0.001,
                    tooltip="Length of the canvas in `unit`, rounded to whole latent columns. 0 = the paper's: six "
                    "views for pictures, three for sound.",
                ),
                io.Combo.Input(
                    "unit",
                    options=["seconds", "pixels", "latent", "auto"],
                    default="auto",
                    tooltip="What `length`, `view` and `height` are counted in. auto = seconds for sound, pixels for "
                    "pictures; latent = latent columns for both.",
                ),
                io.Float.Input(
                    "view",
                    default=0.0,
                    min=0.0,
                    max=1000000.0,
                    step=1.0,
                    round=0.001,
                    tooltip="Length of one view in `unit`. 0 = the model's own (512 px for SD1.5, 1024 px for SDXL, "
                    "47.6 s for Stable Audio Open), or the whole canvas where that is shorter. The paper uses 640 px "
                    "with SD 2.",
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
                    tooltip="Plan for this latent (an empty one of the host's, or one from VAE Encode) instead of "
                    "making one; `length`, `height` and `batch_size` then come from it. A picture's longer side is its "
                    "long axis.",
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
                io.Int.Output(
                    display_name="view_width",
                    tooltip="Width of one view in pixels, for nodes that need the size that the model sees "
                    "(ModelSamplingFlux, Flux2Scheduler); the planner's model then comes from before them.",
                ),
                io.Int.Output(display_name="view_height", tooltip="Height of one view in pixels, as view_width."),
            ],
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
        notes: list[str] = []
        with named(NAME):
            facts = model_facts(model)
            if not 0 <= overlap < 1:
                raise ValueError(f"expected `overlap` from 0 to below 1, got {overlap:g}.")
            # where nothing is typed, an old workflow's unit need not be the model's
            measure = Measure.of(facts, unit if length or view or height else "auto", notes)
            typed_view = measure.columns(view, "view") if view else None
            if latent is None:
                if length:
                    columns = measure.columns(length, "length")
                else:
                    columns = _paper_length(facts, typed_view or facts.view, overlap, loop)
                shape = empty_shape(facts, _rows(facts, height, measure), columns, batch_size)
                canvas = plan_canvas(facts, shape, _fixed_axis(facts, len(shape)), typed_view, overlap, loop)
                latent = empty_latent(facts, shape)
            else:
                latent = fit_latent(model, latent)
                samples = latent["samples"]
                canvas = plan_canvas(facts, samples.shape, _long_axis(facts, samples), typed_view, overlap, loop)
        page = {"native_view": facts.view, "overlap": overlap}
        return cls._output(canvas, latent, notes, page)

    @classmethod
    def _output(cls, canvas: Canvas, latent: dict, notes: list[str], page: dict) -> io.NodeOutput:
        info = describe(canvas, notes)
        caption = "; ".join([*info.split("; ")[:2], *notes])  # the page keeps the picture, not the node's text
        picture = plan_picture(canvas.plan, canvas.scale, canvas.unit, caption)
        preview = show_preview(cls, picture, info, describe_briefly(canvas, notes))
        preview["safa_plan"] = [{**_for_page(canvas), **page}]
        return io.NodeOutput(canvas, latent, picture, info, *_view_size(canvas), ui=preview)


class Measure(NamedTuple):
    """What a person's numbers are counted in, for one model.

    scale: units per latent column. step: columns that go together.
    notes: what is to be told; roundings are added.
    """

    unit: str
    scale: float
    step: int
    notes: list[str]

    @classmethod
    def of(cls, facts: ModelFacts, unit: str, notes: list[str]) -> Measure:
        if unit == "latent":
            return cls(unit, 1.0, facts.patch, notes)
        if unit not in (facts.unit, "auto"):
            raise ValueError(f"{facts.name} counts in {facts.unit}, but `unit` is {unit}; choose auto or latent.")
        return cls(facts.unit, facts.scale, facts.patch, notes)

    def columns(self, value: float, name: str) -> int:
        """Whole latent columns for a length; a rounded one is noted."""
        if not value > 0 or math.isinf(value):
            raise ValueError(f"expected `{name}` above 0 {self.unit}, got {value:g}.")
        step = self.scale * self.step
        steps = max(1, round(value / step))
        if abs(steps * step - value) > 1e-6 * value:
            self.notes.append(f"{name} {value:g} rounded to {steps * step:.6g} {self.unit}")
        return steps * self.step


def plan_canvas(
    facts: ModelFacts, shape: torch.Size, axis: int, view: int | None, overlap: float, loop: bool
) -> Canvas:
    """The canvas of a latent of this shape, [B, C, ...]; refuses one that cannot be planned (ValueError).

    view: in columns; None for the model's own, or one view of the whole canvas where that is shorter.
    """
    columns = shape[axis]
    if view is None:
        view = min(facts.view, columns)
    if columns < view:
        raise ValueError(
            f"the canvas is {facts.measure(columns)} long, but one view is {facts.measure(view)}; ask for at least "
            "one view, or set a smaller `view` (0 for the model's own)."
        )
    if columns % facts.patch:
        raise ValueError(
            f"the canvas is {facts.measure(columns)} long, but {facts.name} sees patches of "
            f"{facts.measure(facts.patch)}; use a length that is a multiple of it."
        )
    views = columns / (view - least_overlap(view, overlap))
    if views > MOST_VIEWS or views * view > MOST_COLUMNS:
        raise ValueError(
            f"a canvas of {facts.measure(columns)} takes about {views:.0f} views of {facts.measure(view)}, more than "
            "can be planned; choose a smaller `length` or `overlap`, or a longer `view`."
        )
    plan = _plan_patches(columns, view, overlap, loop, facts.patch)
    return Canvas(plan, tuple(shape[1:]), axis, facts.unit, facts.scale, facts.patch, facts.name)


def _plan_patches(columns: int, view: int, overlap: float, loop: bool, patch: int) -> ViewPlan:
    """`plan_views` whose views begin with a patch."""
    plan = plan_views(columns // patch, view // patch, overlap, loop)
    return ViewPlan(tuple(start * patch for start in plan.starts), plan.view * patch, plan.length * patch, loop)


def _paper_length(facts: ModelFacts, view: int, overlap: float, loop: bool) -> int:
    """Columns that the paper's number of views covers at exactly this overlap; at least one view's."""
    count, view = PAPER_VIEWS[facts.unit], view // facts.patch
    shared = least_overlap(view, overlap)
    return facts.patch * max(view, count * (view - shared) + (0 if loop else shared))


def _rows(facts: ModelFacts, height: int, measure: Measure) -> int:
    if facts.audio:
        if height:
            raise ValueError(f"{facts.name} makes sound, which has no height; set `height` to 0, not {height}.")
        return facts.rows
    return measure.columns(height, "height") if height else facts.rows


def _long_axis(facts: ModelFacts, samples: torch.Tensor) -> int:
    """The dimension of [B, C, ...] that is long; refuses what this model cannot sample (ValueError)."""
    if samples.shape[1] != facts.channels or samples.ndim != facts.dimensions + 2:
        raise ValueError(
            f"{facts.name} samples latents of {facts.channels} channels and {facts.dimensions} more dimensions, but "
            f"`latent` is {list(samples.shape)}, made for another model; connect an empty latent, one from VAE Encode "
            "with this model's VAE, or nothing."
        )
    if facts.audio or samples.shape[-1] >= samples.shape[-2]:
        return _fixed_axis(facts, samples.ndim)
    return samples.ndim - 2


def _fixed_axis(facts: ModelFacts, dimensions: int) -> int:
    return dimensions - 1 if facts.axis is None else facts.axis


def _view_size(canvas: Canvas) -> tuple:
    """Width and height of one view in pixels; sound has none."""
    if canvas.audio:
        nothing = ExecutionBlocker(f"{NAME}: {canvas.model} makes sound, whose views have no width and height.")
        return nothing, nothing
    return view_size(canvas)


def _for_page(canvas: Canvas) -> dict:
    """The plan for the page, which draws it while one types."""
    plan = canvas.plan
    return {
        "model": canvas.model,
        "unit": canvas.unit,
        "scale": canvas.scale,
        "patch": canvas.patch,
        "length": plan.length,
        "view": plan.view,
        "rows": canvas.rows,
        "loop": plan.loop,
    }
