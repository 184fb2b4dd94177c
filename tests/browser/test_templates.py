"""The workflows that come with the pack, as the page opens them: from the Templates browser and by drag and drop."""

import json
import shutil

import pytest
from PIL import Image

from safa_pack import run
from safa_pack.demo.options import WORKFLOW
from safa_pack.tests.browser.comfy_page import COVERED, LINKS, MISSING, STRAY, click_until, read

pytestmark = pytest.mark.browser
FOLDER = run.ROOT / "workflows"
ALL = sorted(path.stem for path in FOLDER.glob("*.json"))
BLUEPRINT = "SaFa long audio"
BY_HAND = (WORKFLOW.stem, "Panorama - Stable Diffusion 1.5")  # opened by clicks; the others by what the last click does
# where the files are looked for that a widget of this name lists
PLACES = {
    "ckpt_name": "models/checkpoints",
    "clip_name": "models/text_encoders",
    "control_net_name": "models/controlnet",
    "model_name": "models/audio_models",
    "unet_name": "models/diffusion_models",
    "clip_name1": "models/text_encoders",
    "clip_name2": "models/text_encoders",
    "vae_name": "models/vae",
    "lora_name": "models/loras",
}
CHOSEN_BY_USER = {"LoadImage.image", "LoadAudio.audio"}  # empty as saved: no file of that name would open red
APPS = {
    "App - long sound from a prompt, seconds and loop": ("prompt", "seconds", "loop"),
    "App - wide panorama from a prompt and a width": ("prompt", "width"),
}
SEARCHED = ("360", "seamless", "infinite", "tile", "tiled diffusion", "context window", "全景", "无缝", "无限", "平铺")
SEARCHED += ("分块扩散", "上下文窗口")
LEGIBLE = 8 / 14  # below it the page draws no text: fonts of 14 pixels that would be smaller than 8
# links that are drawn behind a node, 16 pixels or more from where its sockets are
BEHIND = """() => {
    const context = document.createElement('canvas').getContext('2d'), found = []
    const steps = (from, to) => Array.from({length: Math.max(0, Math.ceil((to - from) / 3))}, (_, i) => from + 3 * i)
    const across = (a, b) => [a, a + (b - a) / 4, (a + b) / 2, b - (b - a) / 4, b]
    for (const link of app.canvas.renderedPaths) {
        for (const node of app.graph.nodes) {
            const [x, y, w, h] = node.boundingRect, [left, top, right, bottom] = [x + 16, y + 4, x + w - 16, y + h - 4]
            const hit = (px, py) => context.isPointInStroke(link.path, px, py)
            if (steps(left, right).some(px => across(top, bottom).some(py => hit(px, py))) ||
                steps(top, bottom).some(py => across(left, right).some(px => hit(px, py))))
                found.push(node.title)
        }
    }
    return found
}"""


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
    if widget == "model_name":
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
    page = comfy.page
    comfy.settle()  # it looks for missing files after it has drawn the graph
    shown = comfy.graph()
    assert page.get_by_test_id("error-overlay").count() == 0, page.get_by_test_id("error-overlay").inner_text()
    assert page.evaluate(MISSING) == []
    assert set(page.evaluate(STRAY)) <= CHOSEN_BY_USER
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = [[a, out, b, nodes[b]["inputs"][slot]["name"]] for _, a, out, b, slot, _ in workflow["links"]]
    assert sorted(page.evaluate(LINKS)) == sorted(links)
    types = {str(node["id"]): node["type"] for node in workflow["nodes"]}
    assert {str(node["id"]): node["type"] for node in shown["nodes"]} == types
    values = {str(node["id"]): node.get("widgets_values") or [] for node in shown["nodes"]}
    for node in workflow["nodes"]:
        saved = node.get("widgets_values") or []
        assert values[str(node["id"])][: len(saved)] == saved, node["type"]
    assert page.evaluate(COVERED) == []
    assert page.evaluate(BEHIND) == []


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


def test_the_first_loop_is_the_first_of_the_templates(comfy):
    dialog = comfy.templates()
    cards = dialog.locator("[data-testid^='template-workflow-']")
    cards.first.wait_for()
    assert cards.first.get_attribute("data-testid") == f"template-workflow-{WORKFLOW.stem}"
    comfy.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


@pytest.mark.parametrize("name", BY_HAND)
def test_a_template_opens_by_three_clicks(name, comfy):
    assert comfy.open_template(name) == name
    check(comfy, read(FOLDER / f"{name}.json"))


@pytest.mark.parametrize("name", [name for name in ALL if name not in (*BY_HAND, *APPS)])
def test_a_template_opens_whole(name, comfy):
    comfy.load_template(name)
    check(comfy, read(FOLDER / f"{name}.json"))


@pytest.mark.parametrize("name", [WORKFLOW.stem, "Panorama that follows a drawing - ControlNet"])
def test_a_workflow_dropped_on_the_page_opens_whole(name, comfy):
    comfy.drop(FOLDER / f"{name}.json")
    check(comfy, read(FOLDER / f"{name}.json"))


def test_a_node_that_is_not_there_is_complained_of(comfy, tmp_path):
    """What the other tests rely on."""
    workflow = read(WORKFLOW)
    workflow["nodes"][1]["type"] = "NoSuchNode"
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(workflow))
    comfy.drop(broken)
    comfy.page.get_by_test_id("error-overlay").wait_for()
    assert "NoSuchNode" in comfy.page.get_by_test_id("error-overlay").inner_text()
    assert comfy.page.evaluate(MISSING) == ["NoSuchNode"]


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "new"])
def test_every_template_can_be_read_as_it_opens(comfy, vue):
    page = comfy.page
    comfy.set("Comfy.VueNodes.Enabled", vue)
    page.set_viewport_size({"width": 1600, "height": 950})
    for name in ALL:
        if name not in APPS:
            comfy.load_template(name)
            comfy.settle()
            assert page.evaluate("() => app.canvas.ds.scale") > LEGIBLE, name
            assert page.evaluate(COVERED) == [], name
            assert page.evaluate(BEHIND) == [], name
    comfy.set("Comfy.VueNodes.Enabled", False)
    page.set_viewport_size({"width": 1900, "height": 1000})


@pytest.mark.parametrize("name", APPS)
def test_an_app_opens_with_its_inputs_and_a_run_button(name, comfy):
    comfy.load_template(name)
    for label in APPS[name]:
        comfy.page.get_by_text(label, exact=True).first.wait_for()
    comfy.page.get_by_role("button", name="Run").first.wait_for()
    comfy.load_template(WORKFLOW.stem)  # a graph again, for the tests after it
    comfy.set("Comfy.VueNodes.Enabled", False)  # an app switches it on


def search_nodes(comfy):
    """Opens the search for nodes on a blank workflow; returns Playwright's page."""
    page = comfy.page
    page.get_by_role("button", name="Create a new blank workflow").click()
    page.wait_for_function("() => app.graph.nodes.length === 0")
    page.mouse.dblclick(900, 800)
    page.wait_for_function("() => document.activeElement?.tagName === 'INPUT'")
    return page


def test_planner_and_sampler_are_found_by_what_people_search(comfy):
    page = search_nodes(comfy)
    for word in SEARCHED:
        page.locator(":focus").fill(word)
        for title in ("Subview Planner", "SaFa Sampler"):
            page.get_by_text(title, exact=True).first.wait_for()
    page.keyboard.press("Escape")


def test_the_blueprint_is_found_by_its_name(comfy):
    page = search_nodes(comfy)
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
