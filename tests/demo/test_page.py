"""workflows/demo.json as a newcomer meets it: dragged into the page, one click."""

import json
import shutil

import pytest

from safa_pack.demo.options import WORKFLOW
from safa_pack.tests.demo.stand_in import offer_pocket

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
LOADED = "() => window.app && window.app.graph && window.LiteGraph && LiteGraph.registered_node_types.SaFaSampler"
# what the page has no class for, and the widgets whose value is not among their choices
MISSING = """() => app.graph.nodes.filter(node => !LiteGraph.registered_node_types[node.type]).map(node => node.type)"""
STRAY = """() => app.graph.nodes.flatMap(node => (node.widgets || []).filter(
    widget => Array.isArray(widget.options?.values) && !widget.options.values.includes(widget.value)
).map(widget => node.type + '.' + widget.name))"""
FEW_STEPS = (
    "() => { app.graph.nodes.find(n => n.type === 'SaFaSampler').widgets.find(w => w.name === 'steps').value = 2 }"
)
SOUND = """() => {
    const save = app.graph.nodes.find(node => node.type === 'SaFaSaveLoop')
    const player = save.widgets.find(widget => widget.name === 'audioUI').element
    return player.duration > 0 ? [player.src, player.duration] : null
}"""


@pytest.fixture
def page(server):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or pytest.skip("there is no chromium")
    offer_pocket(server.base / "models")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1800, "height": 900})
        page.goto(server.url)
        page.wait_for_function(LOADED, timeout=120000)
        yield page
        browser.close()


def test_the_first_click_in_the_page_makes_a_loop(page):
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    page.wait_for_function(f"() => app.graph.nodes.length === {len(workflow['nodes'])}", timeout=60000)
    assert page.evaluate(MISSING) == []
    assert page.evaluate(STRAY) == []
    page.evaluate(FEW_STEPS)
    page.evaluate("() => app.queuePrompt(0, 1)")
    page.wait_for_function(SOUND, timeout=300000)
    source, seconds = page.evaluate(SOUND)
    assert "SaFa" in source and "demo_00001_.wav" in source and seconds == pytest.approx(24, abs=0.01)
