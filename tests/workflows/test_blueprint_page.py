"""The blueprint "SaFa long audio" as a person meets it: found among the nodes, placed by a click, run."""

import pytest

from safa_pack.tests import chromium
from safa_pack.tests.browser.comfy_page import click_until
from safa_pack.tests.browser.conftest import FLAGS, LOADED, OFFLINE, TIMEOUT
from safa_pack.tests.demo.stand_in import offer_pocket

pytestmark = pytest.mark.browser
NAME = "SaFa long audio"
WIDGETS = "() => app.graph.nodes[0].widgets.map(widget => [widget.name, widget.value])"
SHORTER = """() => { for (const [name, value] of [['seconds', 12], ['steps', 2]])
    app.graph.nodes[0].widgets.find(widget => widget.name === name).value = value }"""
SAVED = """() => { const save = LiteGraph.createNode('SaFaSaveLoop'); app.graph.add(save);
    app.graph.nodes[0].connect(0, save, save.findInputSlot('audio')) }"""
SOUND = """() => {
    const save = app.graph.nodes.find(node => node.type === 'SaFaSaveLoop')
    const player = save.widgets.find(widget => widget.name === 'audioUI').element
    return player.duration > 0 ? [player.src, player.duration] : null
}"""
PICTURE = "() => [...document.images].some(image => image.naturalWidth === 1280 && image.src.includes('/view'))"


@pytest.fixture
def page(server):
    playwright = pytest.importorskip("playwright.sync_api")
    offer_pocket(server.base / "models")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium.find(), args=[*FLAGS, OFFLINE])
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(TIMEOUT)
        # the Templates dialog of a first visit, whenever it comes
        page.add_locator_handler(page.get_by_test_id("dialog-overlay"), lambda: page.keyboard.press("Escape"))
        page.goto(server.url)
        page.wait_for_function(LOADED)
        page.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
        yield page
        page.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
        browser.close()


def test_the_blueprint_is_found_placed_and_run_and_shows_its_picture(page, server):
    page.get_by_text("Nodes", exact=True).first.click()
    page.evaluate("() => app.graph.clear()")
    page.locator("input[placeholder*=earch]").first.fill(NAME)
    page.get_by_text(NAME, exact=True).first.click()
    click_until(page, 900, 300, "() => app.graph.nodes.length === 1 && app.graph.nodes[0].subgraph")
    widgets = dict(page.evaluate(WIDGETS))
    assert list(widgets) == ["prompt", "seconds", "loop", "seed", "model", "steps"]
    assert (widgets["prompt"], widgets["seconds"], widgets["model"]) == (
        "gentle rain with distant bells",
        24,
        "safa-pocket",
    )
    page.evaluate(SHORTER)
    page.evaluate(SAVED)
    page.get_by_role("button", name="Run").first.click()
    page.wait_for_function(SOUND, timeout=2 * TIMEOUT)
    assert page.evaluate(SOUND)[1] == pytest.approx(12, abs=0.01)
    page.wait_for_function(PICTURE)
    page.screenshot(path=server.base / "blueprint.png")
