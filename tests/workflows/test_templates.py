"""The workflows as the Templates browser offers them: thumbnail, note, groups, a graph in order."""

import io
import json
import math
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safa_pack import run
from safa_pack.tests.server import ui_to_api

from .layout import layout_faults, link_faults

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
SIZE, LARGEST = (512, 512), 60_000  # the page shows square cards, 254 pixels wide
LOADERS = {  # node: the folder that its note has to name
    "CheckpointLoaderSimple": "models/checkpoints",
    "CLIPLoader": "models/text_encoders",
    "ControlNetLoader": "models/controlnet",
    "SaFaAudioModelLoader": "models/audio_models",
}
MEDIA = {"LoadAudio": "*Load Audio*", "LoadImage": "*Load Image*"}
POCKET = "safa-pocket"


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def note_of(workflow):
    (note,) = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    return note["widgets_values"][0]


def loaders(workflow):
    return [node for node in workflow["nodes"] if node["type"] in LOADERS]


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_the_card_in_the_templates_browser_has_a_picture(name):
    file = FOLDER / f"{name}.jpg"
    assert file.stat().st_size < LARGEST
    picture = Image.open(file)
    assert (picture.format, picture.size) == ("JPEG", SIZE)
    pixels = np.asarray(picture.convert("RGB"), dtype=float)
    for part in np.split(pixels, 4):  # title, two parts of a drawing, what it is
        assert part.std() > 10
    assert len({tuple(colour) for colour in (pixels[::8, ::8].reshape(-1, 3) // 32).astype(int).tolist()}) > 8


@pytest.mark.tools
def test_no_two_cards_are_alike_and_none_is_left_over():
    pictures = {path.stem: path.read_bytes() for path in FOLDER.glob("*.jpg")}
    assert set(pictures) == set(NAMES)
    assert len(set(pictures.values())) == len(pictures)


@pytest.mark.tools
def test_a_diagram_still_draws_the_plan_of_the_saved_numbers(tmp_path):
    """Drawn anew; letters may differ from one Pillow to the next, views may not."""
    diagrams = ["panorama_sd", "panorama_360_loop", "audio_stable_audio", "rival_multidiffusion"]
    command = [sys.executable, "-m", "tools.draw", "thumbnails", *diagrams, "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=FOLDER.parent)
    for name in diagrams:
        old, new = (
            np.asarray(Image.open(place / f"{name}.jpg").convert("RGB"), float)[105:450] for place in (FOLDER, tmp_path)
        )
        assert np.abs(old - new).mean() < 3, name


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_the_note_says_what_to_load_into_which_folder_and_where_from(name):
    workflow = load(name)
    text = note_of(workflow)
    assert re.match(r"# \S", text)
    needed = loaders(workflow)
    assert needed
    for node in needed:
        assert LOADERS[node["type"]] in text
        assert f"{node['widgets_values'][0]}" in text or node["widgets_values"][0] == POCKET
    assert re.search(r"\*\*Load:\*\*|nothing to download", text)
    assert re.search(r"\]\(https://huggingface\.co/[\w.-]+/[\w.-]+\)", text)
    for node in workflow["nodes"]:
        assert MEDIA.get(node["type"], "") in text


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_the_note_says_what_to_change(name):
    assert re.search(r"\*\*(Change|Try|Compare)\b", note_of(load(name))) or "Bypass it (Ctrl-B)" in note_of(load(name))


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_a_missing_model_comes_with_the_address_that_the_page_downloads_it_from(name):
    """The page offers a download where a loader's `properties.models` names the file that its widget asks for."""
    for node in loaders(load(name)):
        if node["type"] == "SaFaAudioModelLoader":  # a folder of files, which the page cannot fetch
            continue
        (model,) = node["properties"]["models"]
        assert model["name"] == node["widgets_values"][0] == model["url"].rsplit("/", 1)[1]
        assert re.fullmatch(r"https://huggingface\.co/[\w.-]+/[\w.-]+/resolve/main/\S+", model["url"])
        assert f"models/{model['directory']}" == LOADERS[node["type"]]


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_nodes_lie_in_numbered_groups_and_none_on_top_of_another(name):
    workflow = load(name)
    assert layout_faults(workflow) == []
    numbers = [int(group["title"].split()[0]) for group in workflow["groups"]]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 4


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_no_link_dangles(name):
    workflow = load(name)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"])
    assert link_faults(nodes, [tuple(link) for link in workflow["links"]]) == []
    assert workflow["last_node_id"] >= max(nodes)
    assert workflow["last_link_id"] >= max(link[0] for link in workflow["links"])


@pytest.mark.server
@pytest.mark.parametrize("name", NAMES)
def test_every_saved_widget_has_a_value_that_its_node_offers(server, name):
    """All but the names of files, which are the user's."""
    known, workflow = server.object_info(), load(name)
    prompt = ui_to_api(workflow, known)
    for node in workflow["nodes"]:
        if node["type"] not in known or node["type"] in {*LOADERS, *MEDIA}:
            continue
        inputs = known[node["type"]]["input"]
        for widget, spec in {**inputs.get("required", {}), **inputs.get("optional", {})}.items():
            value = prompt[str(node["id"])]["inputs"].get(widget)
            kind, options = spec[0], spec[1] if len(spec) > 1 else {}
            if value is None or isinstance(value, list):  # not a widget, or a link
                continue
            choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
            assert choices is None or value in choices, (node["type"], widget, value)
            if kind in ("INT", "FLOAT"):
                lowest, highest = options.get("min", -math.inf), options.get("max", math.inf)
                assert lowest <= value <= highest, (node["type"], widget, value)


@pytest.mark.server
def test_the_server_lists_every_workflow_under_the_packs_name_and_serves_its_picture(server):
    listed = server.get("/api/workflow_templates")
    assert sorted(listed[run.PACK]) == NAMES
    for name in NAMES:
        address = f"{server.url}/api/workflow_templates/{run.PACK}/{name}"
        with urllib.request.urlopen(f"{address}.jpg", timeout=600) as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"
            assert Image.open(io.BytesIO(answer.read())).size == SIZE
        assert server.get(f"/api/workflow_templates/{run.PACK}/{name}.json") == load(name)
