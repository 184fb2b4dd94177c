"""ComfyUI's own page, served by the real server, in headless Chromium."""

import re

import pytest

from safa_pack.tests import chromium
from safa_pack.tests.browser.comfy_page import ComfyPage

FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
).split()
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
LOADED = "() => window.app && window.app.graph && window.LiteGraph && !!LiteGraph.registered_node_types.SaFaSampler"
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else the Templates browser opens by itself
    "Comfy.RightSidePanel.IsOpen": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # titles in the screenshots, from whatever distance
}
TIMEOUT = 300000  # ms; a machine may have other work to do


@pytest.fixture(scope="module")
def models(server):
    """Where the server looks for models, with the pocket model; read when a page is opened."""
    from safa_pack.tests.demo.stand_in import offer_pocket  # needs the host in reach

    offer_pocket(server.base / "models")
    return server.base / "models"


@pytest.fixture(scope="module")
def comfy(server, models):
    """The page, shared by the tests of a module.

    Not by more: while Playwright is open, its thread has an event loop, and other tests need one of their own.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium.find(), args=[*FLAGS, OFFLINE])
        page = browser.new_page(viewport={"width": 1900, "height": 1000})
        page.set_default_timeout(TIMEOUT)
        opened = ComfyPage(page)
        server.post("/settings", SETTINGS)
        page.goto(server.url)
        page.wait_for_function(LOADED)
        yield opened
        browser.close()


@pytest.fixture
def shot(comfy, request, artefacts):
    """shot(name): a screenshot as an artefact of this test."""
    test = re.sub(r"\W+", "_", request.node.name).strip("_")
    return lambda name="end": comfy.page.screenshot(path=artefacts / f"{test}.{name}.png")


@pytest.fixture(autouse=True)
def told(comfy, shot):
    """Ends every test with a screenshot, failed or not; the console must have said nothing against the pack."""
    yield
    shot()
    said, comfy.complaints[:] = list(comfy.complaints), []
    assert said == []
