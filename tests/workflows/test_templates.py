"""The workflows as the Templates browser offers them: thumbnail, note, groups, a graph in order."""

import io
import json
import math
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safa_pack import run
from safa_pack.demo.options import WORKFLOW
from safa_pack.host_setup import DATA
from safa_pack.tests.server import ui_to_api

from .layout import LEGIBLE, hidden_links, layout_faults, link_faults, scale_as_opened

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
SIZE, LARGEST = (512, 512), 60_000  # the page shows square cards, 254 pixels wide
LOADERS = {  # node of the host: its widgets that name a file (the first ones), and the folder of them
    "CheckpointLoaderSimple": (1, "checkpoints"),
    "UNETLoader": (1, "diffusion_models"),
    "CLIPLoader": (1, "text_encoders"),
    "DualCLIPLoader": (2, "text_encoders"),
    "VAELoader": (1, "vae"),
    "LoraLoaderModelOnly": (1, "loras"),
    "ControlNetLoader": (1, "controlnet"),
}
FOLDER_LOADER = "SaFaAudioModelLoader"  # loads a folder of files, which the page cannot fetch
MEDIA = {"LoadAudio": "*Load Audio*", "LoadImage": "*Load Image*"}
POCKET = "safa-pocket"
APPS = {
    "App - long sound from a prompt, seconds and loop": ["prompt", "seconds", "loop"],
    "App - wide panorama from a prompt and a width": ["prompt", "width"],
}
NOTE_LINES = 5  # with the heading
SEARCHED = ("first loop", "no download", "panorama", "360", "seamless", "long audio", "rain", "loop", "app")
DIAGRAMS = [
    "Panorama - Stable Diffusion 1.5",
    "Panorama 360 seamless - Stable Diffusion 1.5",
    "Long audio - Stable Audio Open",
    "Panorama by rivals - MultiDiffusion, Merge-Attend, SyncDiffusion",
]


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def note_of(workflow):
    (note,) = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    return note["widgets_values"][0]


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
    command = [sys.executable, "-m", "tools.draw", "thumbnails", *DIAGRAMS, "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=FOLDER.parent)
    for name in DIAGRAMS:
        old, new = (
            np.asarray(Image.open(place / f"{name}.jpg").convert("RGB"), float)[105:450] for place in (FOLDER, tmp_path)
        )
        assert np.abs(old - new).mean() < 3, name


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_the_note_is_short_and_says_where_the_models_are_from_and_what_to_change(name):
    workflow = load(name)
    heading, *lines = filter(None, note_of(workflow).split("\n"))
    assert re.match(r"# \S", heading)
    assert 2 <= len(lines) < NOTE_LINES
    text = "\n".join(lines)
    assert re.search(r"\*\*(Change|Try|Compare)\b", text)
    for node in workflow["nodes"]:
        assert MEDIA.get(node["type"], "") in text
        for model in node["properties"].get("models", []):
            repository = re.match(r"https://huggingface\.co/[\w.-]+/[\w.-]+", model["url"]).group()
            assert f"]({repository})" in text or node["type"] == "VAELoader", repository
    (folder,) = [node for node in workflow["nodes"] if node["type"] == FOLDER_LOADER] or [None]
    if folder is None or folder["widgets_values"][0] == POCKET:
        return
    assert re.search(r"`hf download [\w/.-]+ --local-dir models/audio_models/" + folder["widgets_values"][0], text)
    assert f"`{DATA.relative_to(run.ROOT).as_posix()}`" in text  # where `python run.py serve` looks


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_a_missing_model_comes_with_the_address_that_the_page_downloads_it_from(name):
    """The page offers a download where a loader's `properties.models` names the file that its widget asks for."""
    for node in load(name)["nodes"]:
        count, folder = LOADERS.get(node["type"], (0, None))
        models = node["properties"].get("models", [])
        assert [model["name"] for model in models] == node.get("widgets_values", [])[:count]
        for model in models:
            assert model["name"] == model["url"].rsplit("/", 1)[1]
            assert re.fullmatch(r"https://huggingface\.co/[\w.-]+/[\w.-]+/resolve/main/\S+", model["url"])
            assert model["directory"] == folder


@pytest.mark.tools
def test_the_first_loop_stands_first_and_the_names_have_the_words_that_people_search():
    assert sorted(NAMES, key=str.casefold)[0] == WORKFLOW.stem
    for word in SEARCHED:
        assert any(word in name.lower() for name in NAMES), word


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_a_template_can_be_read_as_it_opens(name):
    """At 1600 x 950; LEGIBLE is where the page stops to draw text."""
    assert scale_as_opened(load(name)) > LEGIBLE


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_no_link_runs_behind_a_node(name):
    assert hidden_links(load(name)) == []


@pytest.mark.tools
def test_links_behind_nodes_are_found():
    """What the test before relies on: without its reroutes, the first loop's prompt hides links."""
    workflow = load(WORKFLOW.stem)
    workflow["extra"] = {}
    assert len(hidden_links(workflow)) > 3


@pytest.mark.tools
@pytest.mark.parametrize("name", APPS)
def test_an_app_shows_inputs_and_an_output_that_are_there(name):
    workflow = load(name)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    extra = workflow["extra"]
    assert extra["linearMode"] is True
    shown = []
    for node, widget in extra["linearData"]["inputs"]:
        (socket,) = [entry for entry in nodes[node]["inputs"] if entry["name"] == widget]
        assert "widget" in socket and socket["link"] is None
        shown.append(socket.get("label", widget))
    assert shown == APPS[name]
    (output,) = extra["linearData"]["outputs"]
    assert nodes[output]["type"] in ("SaFaSaveLoop", "SaveImage")


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
    for node in workflow["nodes"]:
        node["mode"] = 0  # those that are bypassed as saved, too
    prompt = ui_to_api(workflow, known)
    for node in workflow["nodes"]:
        if node["type"] not in known or node["type"] in {*LOADERS, *MEDIA, FOLDER_LOADER}:
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
def test_no_workflow_holds_a_node_that_the_host_is_giving_up(server):
    known = server.object_info()
    for name in NAMES:
        used = {node["type"] for node in load(name)["nodes"]} & set(known)
        assert [kind for kind in used if known[kind].get("deprecated")] == [], name


@pytest.mark.server
def test_the_server_lists_every_workflow_under_the_packs_name_and_serves_its_picture(server):
    listed = server.get("/api/workflow_templates")
    assert sorted(listed[run.PACK]) == NAMES
    for name in NAMES:
        address = f"{server.url}/api/workflow_templates/{run.PACK}/{urllib.parse.quote(name)}"
        with urllib.request.urlopen(f"{address}.jpg", timeout=600) as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"
            assert Image.open(io.BytesIO(answer.read())).size == SIZE
        assert server.get(f"/api/workflow_templates/{run.PACK}/{urllib.parse.quote(name)}.json") == load(name)
