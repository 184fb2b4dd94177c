"""Nodes beside ours that were told the canvas's size where the model sees views."""

import logging

import pytest
import torch

from safa_pack.nodes.canvas import Canvas
from safa_pack.nodes.joint.sampler import SaFaModelPatch
from safa_pack.nodes.joint.size_nodes import told_canvas, wants_view
from safa_pack.safa_core import plan_views
from safa_pack.tests import tiny_models
from safa_pack.tests.nodes.host_list import host_list

pytestmark = pytest.mark.host

CANVAS = Canvas(plan_views(400, 64, 0.2), (4, 64, 400), 3, "pixels", 8)  # 3200 x 512 px of views of 512
PLANNER = {"class_type": "SaFaSubviewPlanner", "inputs": {}}


NUMBER = {"class_type": "PrimitiveInt", "inputs": {"value": 3200}}


@pytest.fixture(autouse=True, scope="module")
def all_nodes_are_registered():
    host_list()


def prompt(kind, **inputs):
    return {"1": PLANNER, "2": NUMBER, "3": {"class_type": kind, "inputs": inputs}}


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("ModelSamplingFlux", dict(width=3200, height=512)),
        ("Flux2Scheduler", dict(width=["2", 0], height=512, steps=20)),
        ("CLIPTextEncodeSDXL", dict(width=3200, height=512, crop_w=0)),
        ("LTXVScheduler", dict(latent=["1", 1], steps=20)),
    ],
)
def test_a_node_that_was_told_the_canvas_is_named(kind, inputs):
    (name,) = told_canvas(CANVAS, prompt(kind, **inputs))
    assert name.endswith("(node 3)")


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("ModelSamplingFlux", dict(width=512, height=512)),
        ("ModelSamplingFlux", dict(width=["1", 4], height=["1", 5])),
        ("ConditioningSetArea", dict(width=3200, height=512, x=0, y=0)),
        ("WanImageToVideo", dict(width=3200, height=512)),
        ("EmptyLatentImage", dict(width=3200, height=512)),
        ("VAEDecode", dict(latent=["1", 1])),
        ("NoSuchNode", dict(width=3200, height=512)),
    ],
)
def test_what_needs_the_canvas_or_has_the_view_is_left_alone(kind, inputs):
    assert told_canvas(CANVAS, prompt(kind, **inputs)) == []


def test_one_view_is_the_canvas():
    one = Canvas(plan_views(64, 64), (4, 64, 64), 3, "pixels", 8)
    assert told_canvas(one, prompt("ModelSamplingFlux", width=512, height=512)) == []


def test_every_such_node_of_the_host_is_known():
    """Asked of the host's own list: one that it adds is covered by the same rule, and shows here."""
    found = set()
    for kind, node in host_list().items():
        inputs = node.INPUT_TYPES()
        names = {*inputs.get("required", {}), *inputs.get("optional", {})}
        if wants_view({"class_type": kind, "inputs": dict.fromkeys(names)}):
            found.add(kind)
    assert found == {
        "CLIPTextEncodePixArtAlpha",
        "CLIPTextEncodeSDXL",
        "CLIPTextEncodeSDXLRefiner",
        "Flux2Scheduler",
        "Ideogram4Scheduler",
        "ModelSamplingFlux",
    }


def test_the_warning_says_which_size_to_connect(caplog, monkeypatch):
    hidden = type("Hidden", (), {"prompt": prompt("ModelSamplingFlux", width=3200, height=512)})
    monkeypatch.setattr(SaFaModelPatch, "hidden", hidden)
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        SaFaModelPatch.execute(tiny_models.sd15(), CANVAS)
    assert "SaFa Model Patch: ModelSamplingFlux (node 3) got the canvas's size" in caplog.text
    assert "views of 512 x 512 px; connect view_width and view_height of the Subview Planner" in caplog.text
