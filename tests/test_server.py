"""The driver of the real server, by means of the host's own nodes."""

import pytest
from PIL import Image

from safa_pack.tests.server import PromptRefused, ui_to_api

pytestmark = pytest.mark.server


def link(number, kind="IMAGE"):
    return {"name": "images", "type": kind, "link": number}


def picture_workflow():
    """EmptyImage -> bypassed ImageInvert -> Reroute -> SaveImage, as the web page would save it."""
    return {
        "nodes": [
            {"id": 1, "type": "EmptyImage", "inputs": [], "widgets_values": [48, 32, 1, 255]},
            {"id": 2, "type": "ImageInvert", "mode": 4, "inputs": [link(1)], "outputs": [{"type": "IMAGE"}]},
            {"id": 3, "type": "Reroute", "inputs": [link(2, "*")], "widgets_values": []},
            {"id": 4, "type": "SaveImage", "inputs": [link(3)], "widgets_values": ["safa/blue"]},
            {"id": 5, "type": "MarkdownNote", "widgets_values": ["what to load"]},
            {"id": 6, "type": "SaveImage", "mode": 2, "inputs": [link(4)], "widgets_values": ["muted"]},
        ],
        "links": [
            [1, 1, 0, 2, 0, "IMAGE"],
            [2, 2, 0, 3, 0, "*"],
            {"id": 3, "origin_id": 3, "origin_slot": 0, "target_id": 4, "target_slot": 0, "type": "IMAGE"},
            [4, 1, 0, 6, 0, "IMAGE"],
        ],
    }


def test_a_workflow_saved_by_the_page_runs_and_its_picture_is_found(server):
    prompt = ui_to_api(picture_workflow(), server.object_info())
    assert prompt == {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 48, "height": 32, "batch_size": 1, "color": 255}},
        "4": {"class_type": "SaveImage", "inputs": {"filename_prefix": "safa/blue", "images": ["1", 0]}},
    }
    result = server.run(prompt)
    assert result.error is None and not result.interrupted
    (path,) = server.files(result)
    with Image.open(path) as picture:
        assert picture.size == (48, 32)
        assert picture.getpixel((0, 0)) == (0, 0, 255)


def test_a_saved_seed_does_not_shift_the_widgets_after_it(server):
    sockets = [{"name": name, "type": "X", "link": None} for name in ("model", "positive", "negative", "latent_image")]
    node = {"id": 7, "type": "KSampler", "inputs": sockets}
    node["widgets_values"] = [5, "randomize", 20, 7.5, "euler", "normal", 0.5]
    prompt = ui_to_api({"nodes": [node], "links": []}, server.object_info())
    assert prompt["7"]["inputs"] == {
        "seed": 5, "steps": 20, "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5,
    }  # fmt: skip


def test_a_workflow_saved_before_an_input_was_appended_gets_its_default(server):
    node = {"id": 1, "type": "EmptyImage", "widgets_values": [48, 32]}
    prompt = ui_to_api({"nodes": [node], "links": []}, server.object_info())
    assert prompt["1"]["inputs"] == {"width": 48, "height": 32, "batch_size": 1, "color": 0}


def test_a_node_that_the_server_lacks_is_named(server):
    with pytest.raises(ValueError, match="NoSuchNode"):
        ui_to_api({"nodes": [{"id": 1, "type": "NoSuchNode"}], "links": []}, server.object_info())


def test_a_refused_prompt_says_which_node_and_input(server):
    prompt = {"1": {"class_type": "EmptyImage", "inputs": {"width": 0, "height": 32, "batch_size": 1, "color": 0}}}
    prompt["2"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
    with pytest.raises(PromptRefused, match="width") as refusal:
        server.queue(prompt)
    assert list(refusal.value.node_errors) == ["1"]


def test_a_name_outside_the_output_folder_is_refused_before_any_node_runs(server):
    prompt = {
        "1": {"class_type": "EmptyAudio", "inputs": {"duration": 1.0, "sample_rate": 44100, "channels": 1}},
        "2": {
            "class_type": "SaFaSaveLoop",
            "inputs": {"audio": ["1", 0], "filename_prefix": "../up", "loop": True, "format": "16-bit", "repeat": 1},
        },
    }
    with pytest.raises(PromptRefused, match="filename_prefix - expected a `filename_prefix` below") as refusal:
        server.queue(prompt)
    assert list(refusal.value.node_errors) == ["2"]


def test_an_error_inside_a_node_is_reported(server):
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "../outside"}},
    }
    result = server.run(prompt)
    assert result.error["node_id"] == "2"
    assert not server.files(result)


def test_the_pack_is_loaded_and_no_other(server):
    modules = {info["python_module"] for info in server.object_info().values()}
    assert {name for name in modules if name.startswith("custom_nodes.")} == {"custom_nodes.ComfyUI-SaFa"}
    assert "IMPORT FAILED" not in server.log()
