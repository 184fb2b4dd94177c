"""What a person does with ComfyUI's page, and what the page knows."""

import json
from contextlib import suppress

from safa_pack import run

DROP = """([name, text]) => {
    const data = new DataTransfer(), x = 900, y = 800
    data.items.add(new File([text], name, {type: 'application/json'}))
    const target = document.elementFromPoint(x, y)
    for (const kind of ['dragenter', 'dragover', 'drop'])
        target.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, clientX: x, clientY: y,
                                                  dataTransfer: data}))
}"""
GRAPHS = "[app.graph, ...app.graph.subgraphs.values()]"
NODES = f"{GRAPHS}.flatMap(graph => graph.nodes)"
# what the page has no class for, and the widgets whose value is not among their choices
MISSING = f"() => {NODES}.filter(node => !LiteGraph.registered_node_types[node.type]).map(node => node.type)"
STRAY = f"""() => {NODES}.flatMap(node => (node.widgets || []).filter(
    widget => Array.isArray(widget.options?.values) && !widget.options.values.includes(widget.value)
).map(widget => node.type + '.' + widget.name))"""
# [from node, output's number, to node, input's name]: the page puts a node's inputs into another order
LINKS = """() => [...app.graph.links.values()].map(link => [
    Number(link.origin_id), link.origin_slot, Number(link.target_id),
    app.graph.getNodeById(link.target_id).inputs[link.target_slot].name])"""
# pairs of nodes that cover each other
COVERED = """() => app.graph.nodes.flatMap((a, i) => app.graph.nodes.slice(i + 1).filter(b => {
    const [ax, ay, aw, ah] = a.boundingRect, [bx, by, bw, bh] = b.boundingRect
    return ax < bx + bw && bx < ax + aw && ay < by + bh && by < ay + ah
}).map(b => a.title + ' / ' + b.title))"""
# the middle of a node's title in the window
TITLE = """type => {
    const node = app.graph.nodes.find(node => node.type === type), {scale, offset} = app.canvas.ds
    const {x, y} = app.canvas.canvas.getBoundingClientRect()
    return [x + (node.pos[0] + node.size[0] / 2 + offset[0]) * scale, y + (node.pos[1] - 15 + offset[1]) * scale]
}"""
SET_WIDGET = """([type, name, value]) => {
    const widget = app.graph.nodes.find(node => node.type === type).widgets.find(widget => widget.name === name)
    widget.value = value
}"""
# a new graph has nodes of its own: those that are there before it is loaded are known by this mark
MARK = "() => { for (const node of app.graph.nodes) node.fromBefore = true }"
OPENED = """name => document.title.includes(name) && app.graph.nodes.length
                && !app.graph.nodes.some(node => node.fromBefore)"""
# work that the page has put off is done, and two frames are drawn after it
SETTLED = """() => new Promise(done => requestIdleCallback(
    () => requestAnimationFrame(() => requestAnimationFrame(() => requestIdleCallback(done)))))"""
TRIES, TRY = 15, 20000  # ms
# node: { ... } of the first node of that type
OF_NODE = "type => { const node = app.graph.nodes.find(node => node.type === type); %s }"


def late():
    """What Playwright raises when the time of a wait is over."""
    from playwright.sync_api import TimeoutError

    return TimeoutError


def click_until(page, x, y, condition):
    """Clicks on a place of the canvas, and again where the page was not ready for it yet."""
    for _ in range(TRIES):
        page.mouse.move(x, y)
        page.mouse.click(x, y)
        with suppress(late()):
            return page.wait_for_function(condition, timeout=TRY)
    raise AssertionError(f"the clicks at {x}, {y} did not bring about {condition}")


class ComfyPage:
    """page: Playwright's. complaints: what the console said against the pack since they were cleared."""

    def __init__(self, page):
        self.page, self.complaints = page, []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message):
        """Notes what concerns the pack, but for what the page tries by itself.

        Its help panel asks for en.md before it takes the page without a language, its error panel asks the registry.
        """
        said = f"{message.text} {message.location.get('url', '')}"
        expected = ("404" in said and said.endswith("/en.md")) or "https://api.comfy.org/" in said
        if message.type == "error" and "safa" in said.lower() and not expected:
            self.complaints.append(said)

    def set(self, setting, value):
        self.page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [setting, value])

    def drop(self, path):
        """Drops a workflow's file on the canvas, and waits until its tab is the one in front."""
        self.page.evaluate(MARK)
        self.page.evaluate(DROP, [path.name, path.read_text(encoding="utf-8")])
        self._opened(path.stem)

    def open_template(self, name):
        """Clicks on Templates, the pack's name and the card; returns the card's title."""
        dialog = self.templates()
        card = dialog.get_by_test_id(f"template-workflow-{name}")
        title = card.locator("h3").inner_text()
        self.page.evaluate(MARK)
        for _ in range(TRIES):  # the page passes over a click that comes while its list is still being filled
            with suppress(late()):  # or the card has gone meanwhile: the click before was not passed over
                card.click(timeout=TRY)
                dialog.wait_for(state="hidden", timeout=TRY)
            if not dialog.is_visible():
                break
        self._opened(name)
        return title

    def templates(self):
        """The dialog, at the pack's own page."""
        self.page.get_by_role("button", name="Templates", exact=True).click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_text(run.PACK, exact=True).first.click()
        return dialog

    def thumbnail(self, card):
        """Width and height in pixels of the picture on a template's card."""
        card.scroll_into_view_if_needed()
        image = card.locator("img").first
        image.wait_for()
        size = "image => image.naturalWidth && [image.naturalWidth, image.naturalHeight]"
        return self.page.wait_for_function(size, arg=image.element_handle()).json_value()

    def load_template(self, name):
        """What the click on a card does, without the dialog: the page fetches the template and loads it."""
        script = """async ([pack, name]) => app.loadGraphData(
            await (await fetch(`/api/workflow_templates/${pack}/${name}.json`)).json(), true, true, name)"""
        self.page.evaluate(MARK)
        self.page.evaluate(script, [run.PACK, name])
        self._opened(name)

    def _opened(self, name):
        """Waits until the workflow is the one in front, also where one of that name was there before."""
        self.page.wait_for_function(OPENED, arg=name)

    def graph(self):
        return self.page.evaluate("() => app.graph.serialize()")

    def set_widget(self, node_type, name, value):
        self.page.evaluate(SET_WIDGET, [node_type, name, value])

    def of_node(self, node_type, script):
        """What a script, with `node`, returns for the first node of a type."""
        return self.page.evaluate(OF_NODE % script, node_type)

    def wait_for_node(self, node_type, script, timeout=None):
        self.page.wait_for_function(OF_NODE % script, arg=node_type, timeout=timeout)

    def select(self, node_type):
        """Clicks on a node's title; again where the page has moved its view meanwhile, as it does when it has opened a
        workflow.
        """
        chosen = "return app.canvas.selectedItems.has(node)"
        for _ in range(TRIES):
            self.page.mouse.click(*self.page.evaluate(TITLE, node_type))
            with suppress(late()):
                return self.wait_for_node(node_type, chosen, TRY)
        raise AssertionError(f"the click on {node_type} did not select it")

    def run(self):
        self.page.get_by_test_id("queue-button").click()

    def look_at(self, node_type):
        """The node alone in view, at its full size."""
        script = """app.canvas.ds.scale = 1
            app.canvas.ds.offset = [300 - node.pos[0], 150 - node.pos[1]]; app.canvas.setDirty(true, true)"""
        self.of_node(node_type, script)
        self.settle()

    def settle(self):
        """Waits until the page has done what it had to do and drawn it."""
        self.page.evaluate(SETTLED)

    def fit(self):
        """All nodes in view, as the key for it does."""
        self.page.keyboard.press(".")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))
