"""A plan in words."""

from __future__ import annotations

from ...safa_core import ViewPlan, plan_views
from ..canvas import Canvas


def _with_columns(canvas: Canvas, columns: int) -> str:
    return f"{canvas.measure(columns)} ({columns} latent columns)"


def _across(canvas: Canvas) -> str:
    return "" if canvas.audio else f" x {canvas.measure(canvas.rows)}"


def _count(plan: ViewPlan, noun: str) -> str:
    return f"{len(plan)} {noun}{'s' if len(plan) > 1 else ''}"


def _overlaps(plan: ViewPlan) -> str:
    """The overlaps as shares of a view."""
    shares = [overlap / plan.view for overlap in plan.overlaps] or [0.0]
    return f"{min(shares):.1%}" + (f" to {max(shares):.1%}" if max(shares) > min(shares) else "")


def describe(canvas: Canvas, notes: list[str]) -> str:
    """The plan in one line: views, share of overlap, model windows per step, MultiDiffusion's at its overlap of 0.8.

    notes: what else is to be said, such as roundings.
    """
    plan = canvas.plan
    rival = len(plan_views(plan.length, plan.view, 0.8, plan.loop))
    parts = [
        f"{_count(plan, 'view')} of {_with_columns(canvas, plan.view)} on "
        f"{_with_columns(canvas, plan.length)}{_across(canvas)}{', loop' if plan.loop else ''}",
        f"overlap {_overlaps(plan)}",
        f"{_count(plan, 'model window')} per step ({len(plan) + 1} with a Reference Swap; each twice with CFG), "
        f"MultiDiffusion at overlap 0.8 needs {rival}",
    ]
    return "; ".join([*parts, *notes])


def describe_briefly(canvas: Canvas, notes: list[str]) -> str:
    """The plan for the node itself, where ComfyUI's page has room for two lines; notes come before the second."""
    plan = canvas.plan
    size = f"{canvas.measure(plan.length)}{_across(canvas)}{', loop' if plan.loop else ''}"
    return "\n".join(
        [
            f"{_count(plan, 'view')} of {canvas.measure(plan.view)} on {size}",
            *notes,
            f"overlap {_overlaps(plan)}; {_count(plan, 'window')} per step",
        ]
    )
