"""The workflows that come with the pack, as the page opens them: from the Templates browser and by drag and drop."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from safa_pack import run
from safa_pack.tests.browser.comfy_page import COVERED, LINKS, MISSING, STRAY, click_until, read

pytestmark = pytest.mark.browser
FOLDER = run.ROOT / "workflows"
ALL = sorted(path.stem for path in FOLDER.glob("*.json"))
BLUEPRINT = "SaFa long audio"
BY_HAND = ("demo", "panorama_sd")  # opened by clicks; the others by what the last click does
# where the files are looked for that a widget of this name lists
PLACES = {
    "ckpt_name": "models/checkpoints",
    "clip_name": "models/text_encoders",
    "control_net_name": "models/controlnet",
    "model_name": "models/audio_models",
    "image": "input",
    "audio": "input",
}


def wanted_files():
    """(widget's name, file) of all workflows; widgets come in the order of a node's inputs that have one."""
    for name in ALL:
        for node in read(FOLDER / f"{name}.json")["nodes"]:
            widgets = [part["name"] for part in node.get("inputs", []) if part.get("widget")]
            found = zip(widgets, node.get("widgets_values") or [], strict=False)
            yield from ((widget, value) for widget, value in found if widget in PLACES)


def put(place, widget):
    """A file of that name for the page to list; no test here loads a model from it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if widget == "image":
        Image.new("RGB", (64, 32), "navy").save(place)
    elif widget == "audio":
        soundfile.write(place, np.zeros(800, dtype=np.float32), 8000)
    elif widget == "model_name":
        place.mkdir()
        shutil.copy(run.ROOT / "models" / "safa-pocket" / "model_index.json", place)
    else:
        place.touch()


@pytest.fixture(scope="module")
def models(server, models):
    """The server of someone who has all the files that the workflows name."""
    placed = []
    for widget, value in wanted_files():
        place = server.base / PLACES[widget] / value
        if not place.exists() and value != "safa-pocket":
            put(place, widget)
            placed.append(place)
    yield models
    for place in placed:
        if place.is_dir():
            (place / "model_index.json").unlink()
            place.rmdir()
        else:
            place.unlink()


def check(comfy, workflow):
    """The page has the workflow's nodes, links and values, and nothing to complain of."""
    page, shown = comfy.page, comfy.graph()
    comfy.settle()  # it looks for missing files after it has drawn the graph
    assert page.get_by_test_id("error-overlay").count() == 0, page.get_by_test_id("error-overlay").inner_text()
    assert page.evaluate(MISSING) == []
    assert page.evaluate(STRAY) == []
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = [[a, out, b, nodes[b]["inputs"][slot]["name"]] for _, a, out, b, slot, _ in workflow["links"]]
    assert sorted(page.evaluate(LINKS)) == sorted(links)
    types = {str(node["id"]): node["type"] for node in workflow["nodes"]}
    assert {str(node["id"]): node["type"] for node in shown["nodes"]} == types
    values = {str(node["id"]): node.get("widgets_values") for node in shown["nodes"]}
    for node in workflow["nodes"]:
        saved = node.get("widgets_values") or []
        assert values[str(node["id"])][: len(saved)] == saved, node["type"]
    assert page.evaluate(COVERED) == []


def test_every_template_has_its_own_thumbnail(comfy, shot):
    dialog = comfy.templates()
    shown = {name: comfy.thumbnail(dialog.get_by_test_id(f"template-workflow-{name}")) for name in ALL}
    for number, name in enumerate(ALL[::8]):
        dialog.get_by_test_id(f"template-workflow-{name}").scroll_into_view_if_needed()
        shot(f"dialog{number}")
    comfy.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    sizes = {path.stem: Image.open(path).size for path in FOLDER.glob("*.jpg")}
    assert shown == {name: list(size) for name, size in sizes.items()}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_template_opens_by_three_clicks(name, comfy):
    assert comfy.open_template(name) == name
    check(comfy, read(FOLDER / f"{name}.json"))


@pytest.mark.parametrize("name", [name for name in ALL if name not in BY_HAND])
def test_a_template_opens_whole(name, comfy):
    comfy.load_template(name)
    check(comfy, read(FOLDER / f"{name}.json"))


@pytest.mark.parametrize("name", ["demo", "panorama_controlnet"])
def test_a_workflow_dropped_on_the_page_opens_whole(name, comfy):
    comfy.drop(FOLDER / f"{name}.json")
    check(comfy, read(FOLDER / f"{name}.json"))


def test_a_node_that_is_not_there_is_complained_of(comfy, tmp_path):
    """What the other tests rely on."""
    workflow = read(FOLDER / "demo.json")
    workflow["nodes"][1]["type"] = "NoSuchNode"
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(workflow))
    comfy.drop(broken)
    comfy.page.get_by_test_id("error-overlay").wait_for()
    assert "NoSuchNode" in comfy.page.get_by_test_id("error-overlay").inner_text()
    assert comfy.page.evaluate(MISSING) == ["NoSuchNode"]


def test_the_blueprint_is_found_by_its_name(comfy):
    page = comfy.page
    page.get_by_role("button", name="Create a new blank workflow").click()
    page.wait_for_function("() => app.graph.nodes.length === 0")
    page.mouse.dblclick(900, 800)
    page.wait_for_function("() => document.activeElement?.tagName === 'INPUT'")
    page.keyboard.type(BLUEPRINT)
    page.get_by_text("Subgraph Blueprints / ").first.wait_for()
    page.keyboard.press("Enter")
    click_until(page, 900, 500, "() => app.graph.nodes.length === 1")
    (subgraph,) = read(run.ROOT / "subgraphs" / f"{BLUEPRINT}.json")["definitions"]["subgraphs"]
    assert page.evaluate("() => app.graph.nodes[0].title") == BLUEPRINT
    assert page.evaluate("() => [...app.graph.subgraphs.values()].map(graph => graph.nodes.length)") == [
        len(subgraph["nodes"])
    ]
    assert page.evaluate(MISSING) == []
    assert page.evaluate(STRAY) == []
