"""The subgraph blueprint "SaFa long audio": what the page gets, and that the nodes inside make the sound."""

import copy
import json
from pathlib import Path

import pytest
import soundfile
from PIL import Image

from safa_pack.demo.convert import set_widget
from safa_pack.tests.demo.stand_in import offer_pocket
from safa_pack.tests.server import ui_to_api

from .layout import layout_faults, link_faults

NAME = "SaFa long audio"
FILE = Path(__file__).resolve().parents[2] / "subgraphs" / f"{NAME}.json"
INPUTS = {"prompt": "STRING", "seconds": "FLOAT", "loop": "BOOLEAN", "seed": "INT", "model": "COMBO", "steps": "INT"}
IN, OUT = -10, -20  # ids of a subgraph's ends


@pytest.fixture
def blueprint():
    return json.loads(FILE.read_text(encoding="utf-8"))


def definition_of(blueprint):
    (definition,) = blueprint["definitions"]["subgraphs"]
    return definition


def as_lists(links):
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return [tuple(link[key] for key in keys) for link in links]


def expanded(blueprint, object_info, **changes):
    """The graph inside with the outer node's values (and `changes`) put in: what the page sends, as one workflow."""
    definition = copy.deepcopy(definition_of(blueprint))
    (outer,) = blueprint["nodes"]
    values = dict(zip([i["name"] for i in outer["inputs"]], outer["widgets_values"], strict=True)) | changes
    nodes = {node["id"]: node for node in definition["nodes"]}
    for link in definition["links"]:
        if link["origin_id"] == IN:
            node, name = nodes[link["target_id"]], definition["inputs"][link["origin_slot"]]["name"]
            socket = node["inputs"][link["target_slot"]]
            socket["link"] = None
            set_widget(node, object_info[node["type"]], socket["name"], values[name])
    inner = [link for link in definition["links"] if link["origin_id"] != IN and link["target_id"] != OUT]
    return {"nodes": definition["nodes"], "links": inner}


@pytest.mark.tools
def test_the_page_can_read_the_blueprint(blueprint):
    """As the page's store of blueprints asks it: one node, which is the subgraph that the file defines."""
    (outer,), definition = blueprint["nodes"], definition_of(blueprint)
    assert outer["type"] == definition["id"] and not blueprint["links"]
    assert definition["name"] == outer["title"] == NAME
    for one, other in ((outer["inputs"], definition["inputs"]), (outer["outputs"], definition["outputs"])):
        assert [(slot["name"], slot["type"]) for slot in one] == [(slot["name"], slot["type"]) for slot in other]
    assert {slot["name"]: slot["type"] for slot in definition["inputs"]} == INPUTS
    assert [slot["type"] for slot in definition["outputs"]] == ["AUDIO", "IMAGE"]
    assert len(outer["widgets_values"]) == len(INPUTS)
    (shown,) = outer["properties"]["previewExposures"]
    assert [n["type"] for n in definition["nodes"] if str(n["id"]) == shown["sourceNodeId"]] == ["PreviewImage"]
    assert blueprint["extra"]["BlueprintSearchAliases"] and len(blueprint["extra"]["BlueprintDescription"]) > 40


@pytest.mark.tools
def test_no_link_inside_the_blueprint_dangles(blueprint):
    definition = definition_of(blueprint)
    ends = {
        IN: {"inputs": [], "outputs": [{**slot, "links": slot["linkIds"]} for slot in definition["inputs"]]},
        OUT: {"inputs": [{**slot, "link": slot["linkIds"][0]} for slot in definition["outputs"]], "outputs": []},
    }
    nodes = {node["id"]: node for node in definition["nodes"]} | ends
    assert link_faults(nodes, as_lists(definition["links"])) == []
    assert definition["state"]["lastNodeId"] >= max(node["id"] for node in definition["nodes"])
    assert definition["state"]["lastLinkId"] >= max(link["id"] for link in definition["links"])


@pytest.mark.tools
def test_who_enters_the_subgraph_finds_it_in_order_and_a_note(blueprint):
    definition = definition_of(blueprint)
    assert layout_faults(definition) == []
    (note,) = [node for node in definition["nodes"] if node["type"] == "MarkdownNote"]
    assert "models/audio_models" in note["widgets_values"][0] and "safa-pocket" in note["widgets_values"][0]


@pytest.mark.server
def test_the_server_offers_the_blueprint_under_the_packs_name(server, blueprint):
    listed = server.get("/global_subgraphs")
    ours = {key: entry for key, entry in listed.items() if entry["info"]["node_pack"] == "custom_nodes.ComfyUI-SaFa"}
    ((key, entry),) = ours.items()
    assert entry["name"] == NAME and entry["source"] == "custom_node"
    assert json.loads(server.get(f"/global_subgraphs/{key}")["data"]) == blueprint


@pytest.mark.server
def test_the_nodes_inside_make_a_loop_of_the_asked_length(server, blueprint):
    offer_pocket(server.base / "models")
    object_info = server.object_info()
    prompt = ui_to_api(expanded(blueprint, object_info, seconds=12.0, steps=2), object_info)
    (decode,) = [node for node, value in prompt.items() if value["class_type"] == "SaFaMelDecode"]
    prompt["save"] = {
        "class_type": "SaFaSaveLoop",
        "inputs": {
            "audio": [decode, 0],
            "filename_prefix": "SaFa/blueprint",
            "loop": True,
            "format": "24-bit",
            "repeat": 1,
        },
    }
    result = server.run(prompt)
    assert result.error is None, result.error
    (saved,) = server.files(result, node="save")
    sound, rate = soundfile.read(saved)
    assert (rate, len(sound)) == (16000, 12 * 16000) and sound.std() > 1e-4
    (shown,) = [node for node, value in prompt.items() if value["class_type"] == "PreviewImage"]
    (picture,) = server.files(result, "temp", shown)
    assert Image.open(picture).width == 1280
