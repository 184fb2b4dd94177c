import shutil

import pytest
import soundfile

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
GRAPH = """() => {
    app.graph.clear()
    const sound = LiteGraph.createNode('EmptyAudio'), save = LiteGraph.createNode('SaFaSaveLoop')
    app.graph.add(sound); app.graph.add(save)
    sound.widgets[0].value = 2
    sound.connect(0, save, 0)
    return app.queuePrompt(0, 1)
}"""
PLAYER = """() => {
    const save = app.graph.nodes.find(node => node.type === 'SaFaSaveLoop')
    return save.widgets.find(widget => widget.name === 'audioUI').element
}"""


@pytest.fixture
def page(server):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or pytest.skip("there is no chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.goto(server.url)
        page.wait_for_function("() => window.app && window.app.graph && window.LiteGraph", timeout=60000)
        page.wait_for_function("() => LiteGraph.registered_node_types.SaFaSaveLoop", timeout=60000)
        yield page
        browser.close()


def test_the_page_plays_the_saved_file_and_keeps_its_workflow(page, server):
    page.evaluate(GRAPH)
    page.wait_for_function(f"() => ({PLAYER})().duration > 0", timeout=60000)
    source, seconds = page.evaluate(f"() => [({PLAYER})().src, ({PLAYER})().duration]")
    assert "loop_00001_.wav" in source and seconds == 2
    with soundfile.SoundFile(server.base / "output" / "audio" / "loop_00001_.wav") as file:
        assert file.frames == 2 * file.samplerate
        assert '"workflow"' in file.comment and '"SaFaSaveLoop"' in file.comment
