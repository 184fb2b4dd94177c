"""Each shipped workflow, as saved, through the real server, with tiny models in the real checkpoint formats."""

import json
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safa_pack.nodes import NODES
from safa_pack.tests import tiny_checkpoints
from safa_pack.tests.server import ui_to_api

pytestmark = pytest.mark.server
FOLDER = Path(__file__).resolve().parents[2] / "workflows"
SD, SD35 = "Panorama - Stable Diffusion 1.5", "Panorama - Stable Diffusion 3.5"
CONTROLNET = "Panorama that follows a drawing - ControlNet"
RIVALS = "Panorama by rivals - MultiDiffusion, Merge-Attend, SyncDiffusion"
SIZES = {
    SD: (3200, 128),
    SD35: (3200, 128),
    "App - wide panorama from a prompt and a width": (1280, 128),
    "Panorama 360 seamless - Stable Diffusion 1.5": (1536, 128),
    CONTROLNET: (1280, 128),
    "Panorama - SaFa in front of your own sampler": (1280, 128),
    RIVALS: (1280, 128),
}
# Their models are too large for a test, or the host's text encoders are: the graph alone is judged here. The same node
# chains run with tiny models of the same classes in tests/nodes/joint/test_families.py.
VALIDATED = {
    "Panorama - Flux",
    "Panorama - Qwen-Image",
    "Panorama - Z-Image Turbo",
    "Panorama 360 seamless - Qwen-Image with a 360 LoRA",
    "Long music loop - ACE-Step 1.5",
    "Long audio and loops - Stable Audio 3 small",
}
CHOSEN = {"LoadImage": "example.png", "LoadAudio": "clip.wav"}
STEPS = 2  # a test of the graph, not of the picture: the workflows ask for 30 to 50
# What a test changes besides the steps: a window of 512 x 640 pixels takes a CPU seconds, the rivals have 21 of them.
SHORTER = {name: {"length": float(width), "height": height} for name, (width, height) in SIZES.items()}
ACTIVE, BYPASSED = 0, 4  # modes of a node
# what a user switches on and off to get each of the rivals
SWITCHED = {
    "MultiDiffusion": {},
    "Merge-Attend-Diffuse": {"SaFaMergeAttend": ACTIVE},
    "SyncDiffusion": {"SaFaSyncGradient": ACTIVE, "SaFaModelPatch": BYPASSED},
}


@pytest.fixture(scope="module")
def equipped(server):
    """The server with a tiny model under every name that the workflows ask for."""
    models = server.base / "models"
    tiny_checkpoints.sd15_checkpoint(models / "checkpoints" / "v1-5-pruned-emaonly-fp16.safetensors")
    tiny_checkpoints.sd35_checkpoint(models / "checkpoints" / "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors")
    tiny_checkpoints.sd15_controlnet(models / "controlnet" / "control_v11p_sd15_canny_fp16.safetensors")
    ramp = np.linspace(0, 255, 1600, dtype=np.uint8)
    Image.fromarray(np.stack([np.tile(ramp, (256, 1))] * 3, -1)).save(server.base / "input" / "example.png")
    return server


def load(name, modes=None):
    """The workflow; with the media that a user would choose, and nodes of a type switched to a mode."""
    workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] in CHOSEN:
            node["widgets_values"][0] = CHOSEN[node["type"]]
        node["mode"] = (modes or {}).get(node["type"], node["mode"])
    return workflow


def shortened(prompt, planned=None):
    """`prompt` with STEPS steps, and with the planner's inputs changed to `planned`."""
    for node in prompt.values():
        if "steps" in node["inputs"] and "seed" in node["inputs"]:  # of a sampler, not of SyncDiffusion
            node["inputs"]["steps"] = STEPS
        if node["class_type"] == "SaFaSubviewPlanner":
            node["inputs"].update(planned or {})
    return prompt


ALL = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.mark.parametrize("name", ALL)
def test_a_workflow_names_only_nodes_of_host_and_pack_and_no_link_dangles(server, name):
    workflow, known = load(name), server.object_info()
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert {n["type"] for n in nodes.values()} <= {*known, "MarkdownNote"}
    links = {link[0]: link for link in workflow["links"]}
    for link, origin, slot, target, index, kind in links.values():
        assert link in nodes[origin]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][index]["link"] == link
        assert kind in (nodes[origin]["outputs"][slot]["type"], "*")
    assert {i["link"] for n in nodes.values() for i in n["inputs"]} - {None} == set(links)
    boxes = [group["bounding"] for group in workflow["groups"]]
    for node in nodes.values():
        x, y = node["pos"]
        grouped = any(bx <= x <= bx + w and by <= y <= by + h for bx, by, w, h in boxes)
        assert grouped or node["type"] == "MarkdownNote"


@pytest.mark.parametrize("name", SIZES)
def test_a_workflow_runs_and_its_picture_has_the_asked_size(equipped, name):
    prompt = ui_to_api(load(name), equipped.object_info())
    result = equipped.run(shortened(prompt, SHORTER.get(name)))
    assert result.error is None, result.error
    (saved,) = equipped.files(result)
    picture = np.asarray(Image.open(saved).convert("RGB"), dtype=float)
    assert picture.shape == (SIZES[name][1], SIZES[name][0], 3)
    assert picture.std() > 1
    assert [p["value"] for p in result.progress if p["max"] == STEPS][-1] == STEPS
    assert result.previews > 0


def test_the_planner_shows_its_plan_in_one_line(equipped):
    prompt = shortened(ui_to_api(load(SD35), equipped.object_info()), SHORTER[SD35])
    planner = next(n for n in prompt.values() if n["class_type"] == "SaFaSubviewPlanner")
    planner["inputs"]["batch_size"] = 2  # another plan than before: the host shows nothing anew for a cached node
    sampler = next(n for n in prompt.values() if n["class_type"] == "SaFaSampler")
    sampler["inputs"]["steps"] = 1
    result = equipped.run(prompt)
    info = json.dumps(result.outputs)
    assert "6 views of 640 px" in info and "MultiDiffusion at overlap 0.8 needs 21" in info


def test_every_node_of_the_pack_explains_itself_to_the_page(server):
    nodes = {k: v for k, v in server.object_info().items() if k.startswith("SaFa")}
    assert set(nodes) == {node.define_schema().node_id for node in NODES}
    for name, node in nodes.items():
        assert len(node["description"]) > 40, name
        assert node["search_aliases"], name
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        assert all(spec[1].get("tooltip") for spec in inputs.values()), name


def node_errors(server, prompt):
    """What the server finds wrong, also where it queues the rest of the prompt (the planner and its picture)."""
    try:
        answer = server.post("/prompt", {"prompt": prompt})
    except urllib.error.HTTPError as refusal:
        answer = json.load(refusal)
    return list(answer["node_errors"].values())


def bad_prompt(server, node_type, **changes):
    prompt = shortened(ui_to_api(load(SD35), server.object_info()))
    node = next(n for n in prompt.values() if n["class_type"] == node_type)
    node["inputs"].update(changes)
    return prompt


@pytest.mark.parametrize(
    ("node_type", "changes", "said"),
    [
        ("SaFaSubviewPlanner", {"length": 320.0}, "ask for at least one view"),
        ("SaFaSubviewPlanner", {"unit": "seconds"}, "choose auto or latent"),
        ("SaFaSubviewPlanner", {"overlap": 0.6, "loop": True}, "overlap below one half"),
        ("SaFaReferenceSwap", {"interval": 64}, "Expected `interval` below"),
        ("SaFaSampler", {"denoise": 0.0}, "nothing would be sampled"),
    ],
)
def test_bad_input_is_one_sentence_on_the_node_before_the_model_runs(equipped, node_type, changes, said):
    result = equipped.run(bad_prompt(equipped, node_type, **changes))
    assert said in result.error["exception_message"]
    assert "\n" not in result.error["exception_message"].strip()
    assert not [p for p in result.progress if p["max"] == STEPS]


@pytest.mark.parametrize(
    ("node_type", "changes"),
    [
        ("SaFaSubviewPlanner", {"overlap": 1.0}),
        ("SaFaSubviewPlanner", {"view": -1.0}),
        ("SaFaReferenceSwap", {"rate": 1.5}),
        ("SaFaReferenceSwap", {"interval": 0}),
    ],
)
def test_numbers_out_of_range_are_refused_when_the_prompt_is_queued(equipped, node_type, changes):
    (said,) = node_errors(equipped, bad_prompt(equipped, node_type, **changes))
    assert said["class_type"] == node_type and next(iter(changes)) in said["errors"][0]["details"]


def test_a_backbone_that_is_not_there_is_refused_when_the_prompt_is_queued(equipped):
    prompt = ui_to_api(load(RIVALS, SWITCHED["SyncDiffusion"]), equipped.object_info())
    node = next(n for n in prompt.values() if n["class_type"] == "SaFaSyncGradient")
    node["inputs"]["backbone"] = "vgg16.pth"
    (said,) = node_errors(equipped, prompt)
    assert said["errors"][0]["details"] == "backbone: 'vgg16.pth' not in ['VAE features']"


@pytest.mark.parametrize("rival", SWITCHED)
def test_each_rival_is_one_switch_away_and_makes_its_own_picture(equipped, rival, pictures):
    modes = SWITCHED[rival]
    prompt = shortened(ui_to_api(load(RIVALS, modes), equipped.object_info()), {"length": 512.0, "height": 128})
    planner = next(n for n in prompt.values() if n["class_type"] == "SaFaSubviewPlanner")
    planner["inputs"].update(view=256.0, overlap=0.5)
    used = {node["class_type"] for node in prompt.values()}
    assert {kind for kind, mode in modes.items() if mode == ACTIVE} <= used
    result = equipped.run(prompt)
    assert result.error is None, result.error
    (saved,) = equipped.files(result)
    picture = np.asarray(Image.open(saved).convert("RGB"), dtype=float)
    assert picture.shape == (128, 512, 3)
    assert all(np.abs(picture - other).max() > 0 for other in pictures)
    pictures.append(picture)


@pytest.fixture(scope="module")
def pictures():
    """Those of the rivals that have run."""
    return []


def test_two_methods_that_exclude_each_other_are_one_sentence_on_the_second_node(equipped):
    workflow = load(RIVALS, SWITCHED["Merge-Attend-Diffuse"])
    prompt = shortened(ui_to_api(workflow, equipped.object_info()), SHORTER[RIVALS])
    (merge,) = (name for name, node in prompt.items() if node["class_type"] == "SaFaMergeAttend")
    patch = next(node for node in prompt.values() if node["class_type"] == "SaFaModelPatch")
    prompt["99"] = {
        "class_type": "SaFaLiteFocus",
        "inputs": {"model": [merge, 0], "rho": 0.1, "levels": "2", "seed": 0},
    }
    patch["inputs"]["model"] = ["99", 0]
    result = equipped.run(prompt)
    assert result.error["node_id"] == "99"
    assert result.error["exception_message"].strip() == (
        "LiteFocus: the model already has Merge-Attend-Diffuse, and both replace its self-attention; connect the model "
        "from before Merge-Attend-Diffuse."
    )


def test_interrupting_stops_the_sampling_and_the_next_prompt_runs(equipped):
    prompt = ui_to_api(load(SD35), equipped.object_info())
    result = equipped.run(prompt, on_progress=lambda message: equipped.interrupt())
    assert result.interrupted and not equipped.files(result)
    again = equipped.run(shortened(prompt, SHORTER[SD35]))
    assert again.error is None and len(equipped.files(again)) == 1
