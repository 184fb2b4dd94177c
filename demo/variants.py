"""The first loop's workflow with a person's options put in, still in the page's format, so that files can carry it."""

import copy

from .convert import MUTED, set_widget
from .options import Options

AVERAGES = {"average": "flat", "triangular": "triangular"}  # `window` of Overlap Average


def of_type(workflow: dict, kind: str) -> dict:
    """The only node of a type."""
    (node,) = (node for node in workflow["nodes"] if node["type"] == kind)
    return node


def prompt_node(workflow: dict) -> dict:
    """The node behind the sampler's `positive`."""
    (link,) = (i["link"] for i in of_type(workflow, "SaFaSampler")["inputs"] if i["name"] == "positive")
    (origin,) = (entry[1] for entry in workflow["links"] if entry[0] == link)
    return next(node for node in workflow["nodes"] if node["id"] == origin)


def customised(workflow: dict, object_info: dict, options: Options, method: str) -> dict:
    """The workflow for these options and one of options.METHODS.

    The averages are the paper's rivals MD and MD*: no swap in the overlap, and no reference.
    """
    workflow = copy.deepcopy(workflow)
    sampler, planner = of_type(workflow, "SaFaSampler"), of_type(workflow, "SaFaSubviewPlanner")
    changes = [
        (planner, "length", options.seconds),
        (planner, "loop", options.loop),
        (of_type(workflow, "SaFaSaveLoop"), "loop", options.loop),
        (prompt_node(workflow), "text", options.prompt),
        (sampler, "seed", options.seed),
        (sampler, "steps", options.steps),
    ]
    for node, name, value in changes:
        if value is not None:
            set_widget(node, object_info[node["type"]], name, value)
    if method in AVERAGES:
        average(of_type(workflow, "SaFaSelfLoopSwap"), AVERAGES[method])
        of_type(workflow, "SaFaReferenceSwap")["mode"] = MUTED
    return workflow


def average(join: dict, window: str) -> None:
    """Turns a Self-Loop Swap node into Overlap Average, with the same link behind it."""
    join.update(
        type="SaFaOverlapAverage",
        inputs=[{"name": "window", "type": "COMBO", "link": None, "widget": {"name": "window"}}],
        properties={**join["properties"], "Node name for S&R": "SaFaOverlapAverage"},
        widgets_values=[window],
    )
