"""A newcomer's first minutes with the page: Run, what it shows meanwhile and afterwards, help, and a mistake."""

import re

import pytest
import soundfile

from safa_pack import run
from safa_pack.demo.options import WORKFLOW
from safa_pack.tests.browser.comfy_page import COVERED

pytestmark = pytest.mark.browser
RUN_TIME = 600000  # ms
FOLDER = run.ROOT / "workflows"
# watches the whole run: totals: the bar over the queue, in percent; steps: of the sampler; bar: on its node, 0 to 1
WATCH = """() => {
    const seen = window.seen = {totals: [], steps: [], bar: [], previews: 0, end: null}
    const note = (list, value) => value != null && list.at(-1) !== value && list.push(value)
    const sampler = () => app.graph.nodes.find(node => node.type === 'SaFaSampler')
    const on = (name, heard) => app.api.addEventListener(name, heard)
    on('progress', ({detail}) => detail.node == sampler().id && seen.steps.push([detail.value, detail.max]))
    on('b_preview', () => seen.previews++)
    on('execution_success', () => seen.end = 'success')
    on('execution_error', ({detail}) => seen.end = detail.exception_message)
    window.watching = setInterval(() => {
        note(seen.totals, document.body.innerText.match(/Total:\\s*(\\d+)%/)?.[1])
        note(seen.bar, sampler().progress)
    }, 100)
}"""
ENDS = """() => {
    window.seen = {end: null}
    app.api.addEventListener('execution_success', () => seen.end = 'success')
    app.api.addEventListener('execution_error', ({detail}) => seen.end = detail.exception_message)
}"""
SAMPLED = "return node.imgs?.[0]?.naturalWidth > 0"
PICTURES = "() => app.graph.nodes.every(node => (node.imgs ?? []).every(picture => picture.naturalWidth > 0))"
PLAYER = "const player = node.widgets.find(widget => widget.name === 'audioUI').element; "
SOUND = PLAYER + "return player.duration > 0 ? [player.src, player.duration] : null"
PLAN = "return node.widgets.find(widget => widget.name === 'safa_plan').element.querySelector('.safa-lines').innerText"
HEARD = (
    "return node.widgets.find(widget => widget.name === 'safa_player').element"
    ".querySelector('.safa-time').innerText.endsWith('/ 0:24')"
)
OUTLINE = "return node.strokeStyles.executionError.call(node)?.color"
SOUND_ALONE = """() => {
    app.graph.clear()
    const sound = LiteGraph.createNode('EmptyAudio'), save = LiteGraph.createNode('SaFaSaveLoop')
    app.graph.add(sound); app.graph.add(save)
    save.pos = [400, 100]
    sound.widgets[0].value = 2
    sound.connect(0, save, 0)
}"""


def ended(comfy):
    """How the watched run ended, once it has."""
    return comfy.page.wait_for_function("() => seen.end", timeout=RUN_TIME).json_value()


@pytest.fixture(scope="module")
def seen(comfy, request):
    """The demo at 2 steps, from the file dropped on the page to the end of its run: what was seen meanwhile."""
    comfy.drop(WORKFLOW)
    comfy.set_widget("SaFaSampler", "steps", 2)
    comfy.page.evaluate(WATCH)
    comfy.run()
    comfy.wait_for_node("SaFaSampler", SAMPLED, RUN_TIME)
    artefacts = request.getfixturevalue("artefacts")
    comfy.page.screenshot(path=artefacts / "the_demo_while_it_runs.png")
    assert ended(comfy) == "success"
    return comfy.page.evaluate("() => { clearInterval(window.watching); return seen }")


def test_progress_moves_while_the_demo_runs(seen):
    assert seen["steps"] == [[1, 2], [2, 2]]
    assert seen["previews"] >= 1
    totals = [int(total) for total in seen["totals"]]
    rise = totals[: totals.index(max(totals)) + 1]  # it ends with 0
    assert len(rise) > 1 and rise == sorted(rise), "the bar over the queue"
    assert 0.5 in seen["bar"], "the bar on the sampler"


def test_the_loop_can_be_played_in_the_page(seen, comfy):
    comfy.wait_for_node("SaFaSaveLoop", SOUND)
    source, seconds = comfy.of_node("SaFaSaveLoop", SOUND)
    assert "subfolder=SaFa" in source and re.search(r"demo_\d+_\.wav", source)
    assert seconds == pytest.approx(24, abs=0.01)


def test_the_spectrogram_is_shown(seen, comfy):
    comfy.look_at("SaFaMelDecode")
    comfy.wait_for_node("SaFaMelDecode", HEARD)
    comfy.fit()


def test_the_planner_shows_its_plan_in_lines_that_fit(seen, comfy, shot):
    comfy.wait_for_node("SaFaSubviewPlanner", PLAN)
    assert comfy.of_node("SaFaSubviewPlanner", PLAN).startswith("6 views of 5.12 s on 24 s, loop\noverlap 21.9 %; 6 ")
    comfy.look_at("SaFaSubviewPlanner")
    shot("near")
    shown = comfy.page.locator(".safa-lines", has_text="6 views of 5.12 s")
    text, box = shown.bounding_box(), shown.locator("xpath=ancestor::*[contains(@class, 'dom-widget')]").bounding_box()
    assert text["y"] + text["height"] <= box["y"] + box["height"]
    comfy.fit()


def test_no_node_covers_another_after_the_run(seen, comfy):
    assert comfy.page.evaluate(COVERED) == []


def test_the_other_way_to_draw_nodes_shows_plan_and_player_too(seen, comfy, shot):
    """The page's setting "Nodes 2.0"."""
    comfy.drop(WORKFLOW)
    comfy.set_widget("SaFaSampler", "steps", 2)
    comfy.run()
    comfy.wait_for_node("SaFaSubviewPlanner", PLAN)
    comfy.set("Comfy.VueNodes.Enabled", True)
    try:
        node = comfy.of_node("SaFaSubviewPlanner", "return node.id")
        comfy.page.locator(f"[data-node-id='{node}'] .safa-canvas").wait_for()
        comfy.page.get_by_text("0:00 / 0:24").first.wait_for()
        shot("nodes2")
    finally:
        comfy.set("Comfy.VueNodes.Enabled", False)


def test_the_help_panel_shows_the_node_s_page(comfy):
    comfy.drop(WORKFLOW)
    comfy.select("SaFaSubviewPlanner")
    comfy.page.get_by_test_id("info-button").click()
    page = (run.ROOT / "web" / "docs" / "SaFaSubviewPlanner.md").read_text(encoding="utf-8")
    comfy.page.get_by_text(page.split("\n\n")[1].replace("\n", " ")).wait_for()
    picture = comfy.page.locator("img[src$='plan.png']").element_handle()
    comfy.page.wait_for_function("picture => picture.naturalWidth > 0", arg=picture)


@pytest.mark.parametrize(
    ("name", "player", "seconds"),
    [
        ("Loop seam check - hear, see and measure", "SaFaRollHalf", 24),
        ("Long audio timeline - rain, then bells, then crickets", None, 30),
    ],
)
def test_what_the_results_take_covers_no_other_node_and_a_seam_can_be_heard(comfy, name, player, seconds):
    comfy.drop(FOLDER / f"{name}.json")
    comfy.set_widget("SaFaSampler", "steps", 2)
    comfy.page.evaluate(ENDS)
    comfy.run()
    assert ended(comfy) == "success"
    for node in filter(None, (player, "SaFaSaveLoop")):
        comfy.wait_for_node(node, SOUND)
        assert comfy.of_node(node, SOUND)[1] == pytest.approx(seconds, abs=0.01)
    comfy.fit()
    comfy.page.wait_for_function(PICTURES)  # nodes grow with them
    comfy.settle()
    assert comfy.page.evaluate(COVERED) == []


def test_a_mistake_is_shown_on_the_node_with_what_to_do(comfy):
    comfy.drop(WORKFLOW)
    comfy.set_widget("SaFaSubviewPlanner", "view", 30)
    comfy.run()
    overlay = comfy.page.get_by_test_id("error-overlay")
    overlay.wait_for()
    assert "Subview Planner failed" in overlay.inner_text()
    assert comfy.of_node("SaFaSubviewPlanner", OUTLINE) == "#E00"
    comfy.page.get_by_test_id("error-overlay-see-errors").click()
    sentence = "the canvas is 24 s long, but one view is 30 s; ask for at least one view"
    comfy.page.get_by_test_id("runtime-error-panel").get_by_text(sentence).wait_for()


def test_the_page_plays_a_saved_file_that_keeps_its_workflow(comfy, server):
    comfy.page.evaluate(SOUND_ALONE)
    comfy.run()
    comfy.wait_for_node("SaFaSaveLoop", SOUND, RUN_TIME)
    source, seconds = comfy.of_node("SaFaSaveLoop", SOUND)
    name = re.search(r"loop_\d+_\.wav", source)[0]
    assert seconds == 2
    with soundfile.SoundFile(server.base / "output" / "audio" / name) as file:
        assert file.frames == 2 * file.samplerate
        assert '"workflow"' in file.comment and '"SaFaSaveLoop"' in file.comment
