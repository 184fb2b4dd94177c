"""The host's templates as prompts, and what a user does to one: SaFa Model Patch before its sampler, and a planner.

A prompt is in API format: {node id: {"class_type": …, "inputs": {name: value or [node id, slot]}}}.
"""

import copy
import json

from comfyui_workflow_templates import get_asset_path

from safa_pack.demo.convert import ui_to_api

SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom")
GUIDED = ("SamplerCustomAdvanced",)  # by a guider, which has the model
# Nodes that are to be told the size of what the model sees, which is a view
TOLD = ("ModelSamplingFlux", "Flux2Scheduler")


def template(name, object_info):
    """The prompt of one of the host's templates."""
    with open(get_asset_path(name, f"{name}.json"), encoding="utf-8") as file:
        return ui_to_api(json.load(file), object_info)


def is_link(value):
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def nodes_of(prompt, *kinds):
    """The ids of the nodes of these types, in the prompt's order."""
    return [name for name, node in prompt.items() if node["class_type"] in kinds]


def only(prompt, name):
    """The part of a prompt that a node needs."""
    needed, waiting = set(), [name]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [value[0] for value in prompt[name]["inputs"].values() if is_link(value)]
    return {name: node for name, node in prompt.items() if name in needed}


def samplers(prompt):
    """The ids of the sampler nodes, each after those that it goes on from."""
    found = nodes_of(prompt, *SAMPLERS, *GUIDED)
    return sorted(found, key=lambda name: len(set(found) & set(only(prompt, name))))


def add(prompt, kind, /, **inputs):
    """A link to the first output of a new node."""
    name = f"{kind} {len(prompt)}"
    prompt[name] = {"class_type": kind, "inputs": inputs}
    return [name, 0]


def models_of(prompt, sampler):
    """(node, input) where the models of a sampler come in: of its own, or of its guider."""
    node = prompt[sampler]
    if node["class_type"] in GUIDED:
        node = prompt[node["inputs"]["guider"][0]]
    return [(node, name) for name in ("model", "model_negative") if name in node["inputs"]]


def with_safa(prompt, own_latent, **plan):
    """A prompt with SaFa Model Patch before each sampler and a Subview Planner for the latent of each first one.

    plan: the planner's inputs. own_latent: the planner makes the latent, else it plans for the template's. Nodes that
    are told the picture's size are told the view's.
    """
    prompt = copy.deepcopy(prompt)
    plans = {}
    for sampler in samplers(prompt):
        before = [name for name in plans if name in only(prompt, sampler)]
        models = models_of(prompt, sampler)
        if before:
            planner = plans[before[-1]]
        else:
            fed = {} if own_latent else {"latent": prompt[sampler]["inputs"]["latent_image"]}
            inputs = {"length": 0.0, "height": 0, "batch_size": 1, "loop": False, "view": 0.0, "overlap": 0.2} | plan
            model = _before_told(prompt, models[0])
            planner = add(prompt, "SaFaSubviewPlanner", model=model, **inputs, **fed)
            prompt[sampler]["inputs"]["latent_image"] = [planner[0], 1]
            for told in nodes_of(only(prompt, sampler), *TOLD):
                prompt[told]["inputs"] |= {"width": [planner[0], 4], "height": [planner[0], 5]}
        plans[sampler] = planner
        for node, name in models:
            node["inputs"][name] = add(prompt, "SaFaModelPatch", model=node["inputs"][name], plan=planner)
    return prompt


def _before_told(prompt, model):
    """The link to a sampler's model, or to what it was before a node that is told the view's size."""
    node, name = model
    link = node["inputs"][name]
    for told in nodes_of(only(prompt, link[0]), "ModelSamplingFlux"):
        link = prompt[told]["inputs"]["model"]
    return link


def with_noise_of(prompt, canvas, start, axis):
    """A prompt whose samplers draw the noise of a longer canvas and take the part from column `start`."""
    prompt = copy.deepcopy(prompt)
    for sampler in samplers(prompt):
        for node, name in models_of(prompt, sampler):
            node["inputs"][name] = add(
                prompt, "StandInNoise", model=node["inputs"][name], canvas=canvas, start=start, axis=axis
            )
    return prompt


def with_latent_saved(prompt, name):
    """A prompt that also saves the last sampler's latent, under `name`."""
    prompt = copy.deepcopy(prompt)
    add(prompt, "SaveLatent", samples=[samplers(prompt)[-1], 0], filename_prefix=name)
    return prompt


def edited(prompt, edits):
    """A prompt with inputs set: {node type or id: {input: value}}, "*" for every node that has the input."""
    prompt = copy.deepcopy(prompt)
    for which, values in edits.items():
        for name, node in prompt.items():
            if which in (name, node["class_type"]):
                node["inputs"].update(values)
            elif which == "*":
                node["inputs"].update({key: value for key, value in values.items() if key in node["inputs"]})
    return prompt


def replaced(prompt, stand_ins):
    """A prompt with loaders replaced: {node type: (new type, inputs)}; {node type: {slot: (new type, inputs)}}.

    With slots, the loader stays and only what it would give there comes from the new node.
    """
    prompt = copy.deepcopy(prompt)
    for name in nodes_of(prompt, *stand_ins):
        stand_in = stand_ins[prompt[name]["class_type"]]
        if isinstance(stand_in, tuple):
            kind, inputs = stand_in
            prompt[name] = {"class_type": kind, "inputs": dict(inputs)}
        else:
            for slot, (kind, inputs) in stand_in.items():
                _reroute(prompt, [name, slot], add(prompt, kind, **inputs))
    return prompt


def without(prompt, kinds):
    """A prompt without nodes of some types: {node type: the input that goes on in their place}."""
    prompt = copy.deepcopy(prompt)
    for name in nodes_of(prompt, *kinds):
        node = prompt.pop(name)
        _reroute(prompt, [name, 0], node["inputs"][kinds[node["class_type"]]])
    return prompt


def _reroute(prompt, source, target):
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if value == source:
                node["inputs"][name] = target
