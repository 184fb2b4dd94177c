"""The pack's extension of the page: the drawn plan, the loop player, the ring viewer, and what nodes say."""

import base64
import re

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safa_pack import run
from safa_pack.demo.options import WORKFLOW
from safa_pack.safa_core import plan_views
from safa_pack.tests.safa_core.random_plans import requests

pytestmark = pytest.mark.browser
RUN_TIME = 600000  # ms
RENDERERS = pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes2"])
SCRIPTS = f"/extensions/{run.PACK}/js"
PANEL = "const panel = node.widgets.find(widget => widget.type === 'safa_panel').element; "
LINES = PANEL + "return panel.querySelector('.safa-lines').innerText"
TEXT = "return node.widgets.find(widget => widget.name === 'safa_text')?.element.innerText ?? ''"
HOST_TEXT = "return node.widgets.some(widget => widget.name === '$$node-text-preview')"
# a newer page takes the text away when the run has ended; the listener comes after the page's own
WATCH_TEXT = """script => app.api.addEventListener('progress_text', () => {
    const node = app.graph.nodes.find(node => node.type === 'SaFaSaveLoop')
    window.hostText ||= new Function('node', script)(node)
})"""
# nodes that say something, one of the pack's and one of the host's
SPEAKERS = """() => {
    app.graph.clear()
    const add = type => { const node = LiteGraph.createNode(type); app.graph.add(node); return node }
    const sound = add('EmptyAudio'), save = add('SaFaSaveLoop')
    const model = add('SaFaAudioModelLoader'), prompt = add('CLIPTextEncode'), end = add('PreviewAny')
    sound.widgets[0].value = 2
    sound.connect(0, save, 0)
    model.connect(1, prompt, 0)
    prompt.connect(0, end, 0)
    prompt.widgets[0].value = 'rain with zebras'
    save.pos = [400, 100]; model.pos = [0, 400]; prompt.pos = [400, 500]; end.pos = [900, 400]
    return app.graph.serialize()
}"""
OPEN = "([graph, name]) => app.loadGraphData(graph, true, true, name)"
QUEUE = """async () => {
    const ended = new Promise(done => app.api.addEventListener('execution_success', done, {once: true}))
    await app.queuePrompt(0)
    if (window.meanwhile) await window.meanwhile()
    await ended
}"""
RING = """() => {
    app.graph.clear()
    const add = (type, values) => {
        const node = LiteGraph.createNode(type)
        app.graph.add(node)
        for (const name in values) node.widgets.find(widget => widget.name === name).value = values[name]
        return node
    }
    const model = add('UNETLoader', {unet_name: 'sd3.safetensors'})
    const vae = add('VAELoader', {vae_name: 'sd3.safetensors'})
    const plan = add('SaFaSubviewPlanner', {unit: 'pixels', length: 512, view: 256, height: 256, loop: true})
    const decode = add('SaFaLoopDecode', {}), end = add('PreviewImage', {})
    model.connect(0, plan, 0); vae.connect(0, decode, 0); plan.connect(1, decode, 1); plan.connect(0, decode, 2)
    decode.connect(0, end, 0)
    plan.pos = [400, 0]; decode.pos = [900, 0]; end.pos = [1500, 0]; vae.pos = [0, 200]
    decode.setSize([400, 320])
}"""
# 2.5 rounds of a loop as the player makes them, and how far they are from the file's samples round and round
GAPLESS = """async ([scripts, file]) => {
    const {loadSound, sourceOf} = await import(scripts + '/sound.js')
    const {buffer, loop} = await loadSound(file)
    const [from, to] = loop, rounds = Math.floor(2.5 * (to - from)), sound = buffer.getChannelData(0)
    const context = new OfflineAudioContext(1, from + rounds, buffer.sampleRate)
    const source = sourceOf(context, buffer, loop)
    source.connect(context.destination)
    source.start(0, 0)
    const heard = (await context.startRendering()).getChannelData(0)
    const wanted = i => i < to ? sound[i] : sound[from + (i - from) % (to - from)]
    const apart = heard.reduce((most, value, i) => Math.max(most, Math.abs(value - wanted(i))), 0)
    return {rate: buffer.sampleRate, frames: buffer.length, loop, apart, loudest: Math.max(...sound.slice(0, 9999))}
}"""
DROP = """async ([name, data]) => {
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0)), transfer = new DataTransfer()
    transfer.items.add(new File([bytes], name, {type: 'audio/wav'}))
    const target = document.elementFromPoint(900, 800)
    for (const kind of ['dragenter', 'dragover', 'drop'])
        target.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, clientX: 900, clientY: 800,
                                                  dataTransfer: transfer}))
}"""


@pytest.fixture
def renderer(comfy):
    """renderer(vue): how nodes are drawn, until the test's end."""
    yield lambda vue: comfy.set("Comfy.VueNodes.Enabled", vue)
    comfy.set("Comfy.VueNodes.Enabled", False)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(requests(300), min_size=100, max_size=400))
def test_the_page_plans_as_plan_views_does(comfy, cases):
    script = """async ([scripts, cases]) => {
        const {planViews} = await import(scripts + '/plan.js')
        return cases.map(([length, view, perMille, loop]) => planViews(length, view, perMille / 1000, loop))
    }"""
    drawn = comfy.page.evaluate(script, [SCRIPTS, cases])
    for (length, view, per_mille, loop), page in zip(cases, drawn, strict=True):
        plan = plan_views(length, view, per_mille / 1000, loop)
        assert tuple(page["starts"]) == plan.starts
        assert page["count"] == len(plan)
        assert page["overlaps"] == [min(plan.overlaps, default=0), max(plan.overlaps, default=0)]


@RENDERERS
def test_the_plan_is_drawn_before_a_run_and_follows_what_is_typed(comfy, renderer, shot, vue):
    comfy.drop(WORKFLOW)
    renderer(vue)
    comfy.look_at("SaFaSubviewPlanner")
    comfy.wait_for_node("SaFaSubviewPlanner", LINES + ".startsWith('6 views')")
    lines = comfy.of_node("SaFaSubviewPlanner", LINES).split("\n")
    assert lines == ["6 views of 5.12 s on 24 s, loop", "overlap 21.9 %; 6 windows per step, MultiDiffusion 24"]
    for name, value in [("length", 48.01), ("overlap", 0.5), ("loop", False)]:
        comfy.set_widget("SaFaSubviewPlanner", name, value)
    comfy.wait_for_node("SaFaSubviewPlanner", LINES + ".startsWith('18 views of 5.12 s on 48 s\\n')")
    assert "length 48.01 rounded to 48 s" in comfy.of_node("SaFaSubviewPlanner", LINES)
    shot("typed")
    comfy.set_widget("SaFaSubviewPlanner", "length", 2)
    comfy.wait_for_node("SaFaSubviewPlanner", LINES + ".startsWith('1 view of 2 s on 2 s')")
    comfy.set_widget("SaFaSubviewPlanner", "view", 5)
    comfy.wait_for_node("SaFaSubviewPlanner", LINES + ".startsWith('2 s is less than one view, 5 s')")


def test_the_plan_without_a_known_model_says_so_and_is_drawn_of_what_is_typed(comfy):
    comfy.page.evaluate("() => { app.graph.clear(); app.graph.add(LiteGraph.createNode('SaFaSubviewPlanner')) }")
    comfy.look_at("SaFaSubviewPlanner")
    comfy.wait_for_node("SaFaSubviewPlanner", LINES + ".includes('not known before a run')")
    comfy.set_widget("SaFaSubviewPlanner", "length", 3200)
    comfy.set_widget("SaFaSubviewPlanner", "view", 640)
    comfy.wait_for_node("SaFaSubviewPlanner", LINES + ".includes('6 views')")


@pytest.mark.parametrize("format", ["16-bit", "float"])
def test_the_loop_is_played_without_a_gap(comfy, server, format):
    """Rendered by the browser's own engine: sample for sample the file's loop, at the file's own rate."""
    from safa_pack.nodes.decode.save_loop import write_wav
    from safa_pack.safa_core.sound.riff import smpl_chunk

    noise = torch.rand(1, 16001, generator=torch.Generator().manual_seed(3)) * 1.6 - 0.8
    name = f"noise-{format}.wav"
    (server.base / "output").mkdir(exist_ok=True)
    write_wav(server.base / "output" / name, noise, 16000, format, 1, [smpl_chunk(16000, 16001)])
    file = {"filename": name, "subfolder": "", "type": "output"}
    played = comfy.page.evaluate(GAPLESS, [SCRIPTS, file])
    assert (played["rate"], played["frames"], played["loop"]) == (16000, 16001, [0, 16001])
    assert played["loudest"] > 0.7
    assert played["apart"] == 0


def open_as(comfy, graph, name):
    comfy.page.evaluate(OPEN, [graph, name])
    comfy.page.wait_for_function("name => document.title.includes(name)", arg=name)
    comfy.look_at("SaFaSaveLoop")


@pytest.fixture(scope="module")
def speakers(comfy, models):
    return comfy.page.evaluate(SPEAKERS)


@pytest.fixture(scope="module")
def spoken(comfy, speakers):
    """Two workflows of the same nodes: the first one was run while the second was opened before it ended."""
    open_as(comfy, speakers, "first")
    comfy.page.evaluate(f"graph => {{ window.meanwhile = () => ({OPEN})([graph, 'second']) }}", speakers)
    comfy.page.evaluate(QUEUE)
    comfy.page.evaluate("() => { window.meanwhile = null }")
    comfy.look_at("SaFaSaveLoop")


def go_to(comfy, name):
    comfy.page.get_by_text(name, exact=True).first.click()
    comfy.page.wait_for_function("name => document.title.includes(name)", arg=name)
    comfy.settle()


def test_what_a_node_says_lands_on_its_own_workflow_alone(spoken, comfy):
    comfy.page.wait_for_timeout(1000)  # longer than panels and voices wait
    assert "second" in comfy.page.title()
    assert comfy.of_node("SaFaSaveLoop", LINES) == comfy.of_node("CLIPTextEncode", TEXT) == ""
    assert not comfy.of_node("SaFaSaveLoop", HOST_TEXT)
    assert not comfy.of_node("CLIPTextEncode", HOST_TEXT)


def said(comfy):
    comfy.look_at("SaFaSaveLoop")
    comfy.wait_for_node("CLIPTextEncode", TEXT + ".startsWith('unknown to this model: ')", RUN_TIME)
    comfy.wait_for_node("SaFaSaveLoop", LINES + ".match(/^loop_\\d+_\\.wav: 2 s at/)", RUN_TIME)


def test_it_stays_through_a_tab_switch_and_a_reload(spoken, comfy):
    go_to(comfy, "first")
    said(comfy)
    comfy.page.reload()
    comfy.page.wait_for_function("() => window.app?.graph?.nodes.length === 5")
    said(comfy)


def test_a_run_from_the_cache_says_it_again(spoken, comfy, speakers):
    open_as(comfy, speakers, "third")
    comfy.page.evaluate(QUEUE)
    comfy.wait_for_node("SaFaSaveLoop", LINES + ".match(/^loop_\\d+_\\.wav: 2 s at/)", RUN_TIME)


@RENDERERS
def test_the_player_is_the_only_one_and_its_node_keeps_its_size(spoken, comfy, speakers, renderer, shot, vue):
    renderer(vue)
    open_as(comfy, speakers, f"alone {vue}")
    before = comfy.of_node("SaFaSaveLoop", "return [...node.size]")
    comfy.page.evaluate(QUEUE)
    comfy.wait_for_node("SaFaSaveLoop", LINES + ".match(/^loop_\\d+_\\.wav: 2 s at/)", RUN_TIME)
    comfy.look_at("SaFaSaveLoop")
    shot("player")
    assert comfy.of_node("SaFaSaveLoop", "return [...node.size]") == before
    times = comfy.page.get_by_text("0:00 / 0:02", exact=True)
    assert times.count() == 1
    assert comfy.page.locator("audio:visible").count() == 0


def test_a_wav_dropped_on_the_page_opens_its_workflow(spoken, comfy, server):
    saved = max((server.base / "output" / "audio").glob("loop_*.wav"), key=lambda path: path.stat().st_mtime)
    comfy.page.evaluate("() => app.graph.clear()")
    comfy.page.evaluate(DROP, [saved.name, base64.b64encode(saved.read_bytes()).decode()])
    comfy.page.wait_for_function(
        "() => app.graph.nodes.length === 5 && app.graph.nodes.every(node => node.type !== 'LoadAudio')"
    )


@pytest.fixture(scope="module")
def decoded(comfy, server):
    """A ring of 512 x 256 pixels, decoded."""
    from safa_pack.tests import tiny_checkpoints, tiny_models

    for kind, weights in [("diffusion_models", tiny_models.sd3_state_dict()), ("vae", tiny_checkpoints._vae(16))]:
        (server.base / "models" / kind).mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(weights, server.base / "models" / kind / "sd3.safetensors")
    comfy.page.evaluate("() => app.refreshComboInNodes()")
    comfy.page.evaluate(RING)
    comfy.page.evaluate(QUEUE)


@RENDERERS
def test_a_ring_is_dragged_round_without_an_end(decoded, comfy, renderer, shot, vue):
    renderer(vue)
    comfy.look_at("SaFaLoopDecode")
    place = PANEL + "return parseFloat(panel.querySelector('.safa-ring').style.backgroundPositionX)"
    comfy.wait_for_node(
        "SaFaLoopDecode", PANEL + "return panel.querySelector('.safa-ring').style.backgroundRepeat === 'repeat-x'"
    )
    screen = comfy.page.locator(".safa-ring")
    screen.wait_for()
    box = screen.bounding_box()
    middle = box["y"] + box["height"] / 2
    before, places = comfy.of_node("SaFaLoopDecode", place), []
    for _ in range(4):
        comfy.page.mouse.move(box["x"] + box["width"] - 20, middle)
        comfy.page.mouse.down()
        comfy.page.mouse.move(box["x"] + 20, middle, steps=4)
        comfy.page.mouse.up()
        places.append(comfy.of_node("SaFaLoopDecode", place))
    turn = 2 * box["height"]
    rounds = (places[-1] - before + 4 * (box["width"] - 40)) / turn
    assert rounds == pytest.approx(round(rounds), abs=0.02) and round(rounds) > 0
    assert all(abs(place) < turn for place in places)
    screen.press("ArrowRight")
    assert comfy.of_node("SaFaLoopDecode", place) != places[-1]
    assert comfy.page.get_by_role("button", name="Sphere").is_visible()
    shot("ring")


def test_sockets_keep_their_colours_in_every_theme(comfy):
    script = (
        "() => ['SAFA_PLAN', 'SAFA_JOIN', 'SAFA_GUIDE', 'SAFA_STEPS'].map(type => LGraphCanvas.link_type_colors[type])"
    )
    colours = comfy.page.evaluate(script)
    assert len({colour for colour in colours if re.fullmatch("#[0-9a-f]{6}", colour)}) == 4
    comfy.set("Comfy.ColorPalette", "light")
    comfy.settle()
    assert comfy.page.evaluate(script) == colours
    comfy.set("Comfy.ColorPalette", "dark")


def test_without_the_extension_the_host_shows_text_and_player(comfy, speakers):
    comfy.set("Comfy.Extension.Disabled", ["SaFa"])
    try:
        comfy.page.reload()
        comfy.page.wait_for_function("() => window.app?.graph?.nodes.length > 0")  # what was open is there again
        comfy.settle()
        open_as(comfy, speakers, "alone")
        comfy.set_widget("EmptyAudio", "duration", 3)
        comfy.page.evaluate(WATCH_TEXT, HOST_TEXT)
        comfy.page.evaluate(QUEUE)
        assert comfy.page.evaluate("() => window.hostText")
        comfy.wait_for_node(
            "SaFaSaveLoop", "return node.widgets.find(widget => widget.name === 'audioUI').element.duration === 3"
        )
        assert comfy.of_node("SaFaSaveLoop", "return node.widgets.every(widget => widget.type !== 'safa_panel')")
        # a newer page notes in its console, once, that nothing there listens to the pack's message
        comfy.complaints[:] = [said for said in comfy.complaints if "Unknown message type safa_text" not in said]
    finally:
        comfy.set("Comfy.Extension.Disabled", [])
