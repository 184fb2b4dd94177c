"""Other nodes of a workflow that are to be told the view's size, and were told the canvas's.

The model sees views: a node that makes a schedule, a shift of the model or a size in the prompt from width and height
(ModelSamplingFlux, Flux2Scheduler, CLIPTextEncodeSDXL, ...) or from a latent (LTXVScheduler) needs the view's.
"""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io

import nodes as host_nodes

from ..canvas import Canvas
from ..node_text import show_text

SAMPLING = {"MODEL", "SIGMAS"}
MAKES = {*SAMPLING, "CONDITIONING"}  # and nothing else: nodes that make a latent too need the canvas's size


def warn_of_canvas_sizes(who: str, canvas: Canvas, prompt: dict[str, Any] | None) -> None:
    """Tell of the nodes of a prompt (the host's, in API form) that were given the canvas's width and height."""
    names = told_canvas(canvas, prompt or {})
    if not names:
        return
    width, height = view_size(canvas)
    text = (
        f"{' and '.join(names)} got the canvas's size, but the model sees views of {width} x {height} px; connect "
        "view_width and view_height of the Subview Planner, or an empty latent of that size."
    )
    logging.warning(f"{who}: {text}")
    show_text(text)


def prompt_of(node: type[io.ComfyNode]) -> dict[str, Any] | None:
    """The prompt that runs, for a node with `io.Hidden.prompt`; None outside of one."""
    return None if node.hidden is None else node.hidden.prompt


def view_size(canvas: Canvas) -> tuple[int, int]:
    """Width and height of one view in pixels."""
    return _in_pixels(canvas, canvas.plan.view)


def told_canvas(canvas: Canvas, prompt: dict[str, Any]) -> list[str]:
    """Names of the nodes that were given the canvas's size and want the view's; none for sound, or for one view."""
    if canvas.unit != "pixels" or canvas.plan.view == canvas.plan.length:
        return []
    size = _in_pixels(canvas, canvas.plan.length)
    return [
        f"{_display_name(node)} (node {number})"
        for number, node in prompt.items()
        if (wants_view(node) and _given(node, prompt) == size) or _has_canvas(node, prompt)
    ]


def _in_pixels(canvas: Canvas, along: int) -> tuple[int, int]:
    length, across = round(along * canvas.scale), round(canvas.rows * canvas.scale)
    upright = canvas.axis < len(canvas.shape)
    return (across, length) if upright else (length, across)


def _display_name(node: dict[str, Any]) -> str:
    kind = node["class_type"]
    return host_nodes.NODE_DISPLAY_NAME_MAPPINGS.get(kind) or kind  # type: ignore[attr-defined]  # the host's `nodes`


def _makes(node: dict[str, Any], kinds: set[str]) -> bool:
    """Whether all outputs are of these types, and there is one."""
    node_class = host_nodes.NODE_CLASS_MAPPINGS.get(node["class_type"])  # type: ignore[attr-defined]
    returned = set(getattr(node_class, "RETURN_TYPES", ()))
    return bool(returned) and returned <= kinds


def wants_view(node: dict[str, Any]) -> bool:
    """Whether it makes something of width and height alone, without a place (x) on the canvas."""
    inputs = node["inputs"].keys()
    return _makes(node, MAKES) and {"width", "height"} <= inputs and "x" not in inputs


def _has_canvas(node: dict[str, Any], prompt: dict[str, Any]) -> bool:
    """Whether it makes a schedule or a shift from the planner's own latent."""
    latent = node["inputs"].get("latent")
    if not isinstance(latent, list) or not _makes(node, SAMPLING):
        return False
    return prompt.get(latent[0], {}).get("class_type") == "SaFaSubviewPlanner"


def _given(node: dict[str, Any], prompt: dict[str, Any]) -> tuple[Any, Any]:
    width, height = (_constant(node["inputs"][name], prompt) for name in ("width", "height"))
    return width, height


def _constant(value: Any, prompt: dict[str, Any]) -> Any:
    """The number that an input has, or that a node with nothing but a `value` gives it."""
    if not isinstance(value, list):
        return value
    source = prompt.get(value[0], {}).get("inputs", {})
    return source.get("value") if set(source) == {"value"} else None
