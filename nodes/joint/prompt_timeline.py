"""Prompt Timeline: a prompt for every stretch of the canvas, from lines of text."""

from __future__ import annotations

from typing import Any

import torch

import node_helpers
from comfy_api.latest import io

from ...safa_core import ViewPlan
from ...safa_core.timeline import (
    Ruler,
    prompt_of_views,
    prompt_weights,
    prompts_of_views,
    read_timeline,
    weights_of_views,
)
from ..canvas import Canvas
from ..errors import named
from ..node_text import show_preview
from ..sockets import CATEGORY, SaFaPlan
from .regions import SPAN
from .timeline_picture import timeline_picture

Conditioning = list[list[Any]]  # the host's: pairs of tokens and further values

NAME = "Prompt Timeline"
EXAMPLE = "0-8: gentle rain\n8-20: rain with distant bells\ndefault: rain"


def weight_columns(conditioning: Conditioning, weight: torch.Tensor, canvas: Canvas) -> Conditioning:
    """A host CONDITIONING that weighs `weight` [length] along the canvas, as a regional mask; unchanged where always 1.

    The mask is the host's own kind: within each view it blends the predictions of all the view's prompts column by
    column, and views keep the model's length. It works without the SaFa patch, too.
    """
    if bool((weight == 1).all()):
        return conditioning
    dims = canvas.shape[1:]
    along = [-1 if d == canvas.axis - 2 else 1 for d in range(len(dims))]
    mask = weight.reshape(1, *along).expand(1, *dims).contiguous()
    return node_helpers.conditioning_set_values(
        conditioning, {"mask": mask, "mask_strength": 1.0, "set_area_to_bounds": False}
    )


def limit_to_views(conditioning: Conditioning, takes: torch.Tensor, plan: ViewPlan) -> Conditioning:
    """A host CONDITIONING for the views that take it, bool [len(plan)]; unchanged where all do."""
    if bool(takes.all()):
        return conditioning
    spans: list[tuple[int, int]] = []
    for i, start in enumerate(plan.starts):
        if takes[i]:
            middle = start + plan.view // 2  # a span takes the views that are centred in it
            first = spans.pop()[0] if i and takes[i - 1] else middle
            spans.append((first, middle + 1))
    entries: Conditioning = []
    for span in spans:
        entries += node_helpers.conditioning_set_values(conditioning, {SPAN: span})
    return entries


def describe(prompts: int, windows: int, ruler: Ruler, change: str) -> str:
    """The timeline in one line: prompts, how they change, and what it costs."""
    cost = (
        f"{_count(windows, 'model window')} per step for {_count(len(ruler.plan), 'view')} (without CFG and reference)"
    )
    parts = [f"{_count(prompts, 'prompt')} on {ruler.text(ruler.plan.length)}", change, cost]
    return ", ".join(parts if prompts > 1 else [parts[0], cost])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class SaFaPromptTimeline(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaPromptTimeline",
            display_name=NAME,
            category=CATEGORY,
            description="Gives every stretch of a long sound or wide picture its own prompt, from lines such as "
            "`0-8: gentle rain`, with cross-fades between neighbours. Views that see several prompts run once for "
            "each.",
            search_aliases=["prompt schedule", "prompt travel", "regional prompt", "text timeline", "prompt per view"],
            inputs=[
                io.Clip.Input("clip", tooltip="Encodes the prompts; the CLIP of the model that samples."),
                io.String.Input(
                    "timeline",
                    multiline=True,
                    dynamic_prompts=True,
                    placeholder=EXAMPLE,
                    tooltip="One prompt per line: `0-8: gentle rain` in the plan's unit (seconds or pixels; s and px "
                    "may be written), `2-3v: bells` in views, `8-: ...` to the end. A line without a span, or "
                    "`default: ...`, is for all the rest. On a loop `20-4` goes around the end.",
                ),
                SaFaPlan.Input("plan", tooltip="The canvas from the Subview Planner: its length, unit, views, loop."),
                io.Float.Input(
                    "cross_fade",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="How long neighbouring prompts fade into each other, as share of one view, 0 to 1, "
                    "centred on their border: 0.1 is 1 s for views of 10 s. 0 = a hard change.",
                ),
                io.Combo.Input(
                    "blend",
                    options=["columns", "views"],
                    default="columns",
                    optional=True,
                    tooltip="columns: prompts begin and end where written; a view that sees several runs once for "
                    "each. views: each view takes the prompt that weighs most on it and runs once: faster, coarser, "
                    "and what Merge-Attend-Diffuse needs.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="One conditioning per prompt, with masks."),
                io.Image.Output(display_name="preview", tooltip="The prompts' weights over the views."),
                io.String.Output(display_name="info", tooltip="The timeline in one line."),
            ],
            has_intermediate_output=True,  # what it says is shown again when its result comes from the cache
        )

    @classmethod
    def execute(
        cls, clip: Any, timeline: str, plan: Canvas, cross_fade: float = 0.1, blend: str = "columns"
    ) -> io.NodeOutput:
        canvas = plan
        ruler = Ruler(canvas.plan, canvas.unit, canvas.scale)
        with named(NAME):
            if clip is None:
                raise ValueError(
                    "expected a CLIP, got none; the checkpoint holds no text encoder: load one with Load CLIP."
                )
            if not 0 <= cross_fade <= 1:
                raise ValueError(f"expected `cross_fade` from 0 to 1 (share of a view), got {cross_fade:g}.")
            fade = round(cross_fade * canvas.plan.view)
            lines = read_timeline(timeline, ruler)
            prompts, weights = prompt_weights(lines, ruler, fade)
            if blend == "views":
                chosen = prompt_of_views(lines, prompts, weights, canvas.plan)
                weights = weights_of_views(chosen, len(prompts), canvas.plan)
                seen = chosen == torch.arange(len(prompts)).unsqueeze(1)
                change = "one for each view"
            else:
                seen = prompts_of_views(weights, canvas.plan)
                change = f"cross-fade {ruler.text(fade)}"
        used = seen.any(1)
        prompts = [prompts[i] for i in used.nonzero().flatten()]
        weights, seen = weights[used], seen[used]
        positive = []
        for prompt, weight, takes in zip(prompts, weights, seen, strict=True):
            encoded = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
            if blend == "views":
                positive += limit_to_views(encoded, takes, canvas.plan)
            else:
                positive += weight_columns(encoded, weight, canvas)
        info = describe(len(prompts), int(seen.sum()), ruler, change)
        picture = timeline_picture(prompts, weights, ruler, info)
        return io.NodeOutput(positive, picture, info, ui=show_preview(cls, picture, info))
