"""The table of docs/models.md: what the Subview Planner says of every model that the host knows."""

from __future__ import annotations

import comfy.supported_models
from comfy.supported_models_base import BASE

from safa_pack.nodes.joint.model_facts import ModelFacts, facts_of

HEAD = "| ComfyUI's name | makes | one view | latent of one view | a swap takes |\n|---|---|---|---|---|"


def models_table() -> str:
    """Every model of the host in its own order: view and latent, or why there is none."""
    return "\n".join([HEAD, *(_row(family) for family in comfy.supported_models.models)])


def _row(family: type[BASE]) -> str:
    # some families compute their memory from it, which detection reads from the weights
    config = family({"hidden_size": 2604, **family.unet_config})
    try:
        facts = facts_of(config, config.latent_format)
    except ValueError as refusal:
        return f"| {family.__name__} | refused: {str(refusal).removeprefix(family.__name__ + ' ')} | | | |"
    swap = "one column" if facts.patch == 1 else f"a patch, {facts.patch} px"
    return f"| {family.__name__} | {_product(facts)} | {_view(facts)} | {_latent(facts)} | {swap} |"


def _product(facts: ModelFacts) -> str:
    if facts.audio:
        return f"sound, {1 / facts.scale:.4g} columns a second"
    return "pictures, or one frame of a video" if facts.dimensions == 3 else "pictures"


def _view(facts: ModelFacts) -> str:
    if facts.audio:
        return facts.measure(facts.view)
    return f"{facts.view * facts.scale} x {facts.rows * facts.scale} px"


def _latent(facts: ModelFacts) -> str:
    sizes = {1: [facts.view], 2: [facts.rows, facts.view], 3: [1, facts.rows, facts.view]}[facts.dimensions]
    return " x ".join(str(size) for size in [facts.channels, *sizes])
