"""Workflows of the pack run in a real server, for the pictures that show a real run."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from ... import host_setup, run
from ...demo.convert import ui_to_api
from ...nodes.decode.spectrogram_picture import Spectrogram, audio_spectrogram
from ...safa_core import ViewPlan, plan_views
from ...training.sounds import SAMPLE_RATE, SOUNDS

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows"
POCKET, STEPS = ROOT / "models" / "safa-pocket", 25
DEMO, SEAM_CHECK = "A first loop, no download - seamless rain", "Loop seam check - hear, see and measure"
CLIP, AUDIOLDM = "Long audio that follows a clip", "Long audio and loops - AudioLDM 2"
APP = "App - long sound from a prompt, seconds and loop"
SPHERE = "Panorama 360 seamless - Qwen-Image with a 360 LoRA"
# by name: what a latent column is (in the planner's unit), and the view that 0 asks for, in columns
PIXELS, SECONDS = (8, 64), (0.04, 128)
SCALES = {
    APP: SECONDS,
    "Long audio - Stable Audio Open": (2048 / 44100, 1024),
    "Long audio and loops - Stable Audio 3 small": (4096 / 44100, 1292),
    "Long music loop - ACE-Step 1.5": (1920 / 48000, 3000),
}
VIEWS = {"Panorama - Flux": 128, "Panorama - Z-Image Turbo": 128, "Panorama - Qwen-Image": 166}  # columns
PROMPTS = {AUDIOLDM: "waves with birds"}  # in the pocket model's words; the other runs keep their workflow's


@dataclass(frozen=True)
class Sound:
    """What a run left: its spectrogram, and that of the clip it was given."""

    spectrum: Spectrogram
    clip: Spectrogram | None = None


def workflow(name: str) -> dict:
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def plan_of(name: str) -> ViewPlan:
    """The views that the workflow's planner makes of its saved numbers."""
    (planner,) = (node for node in workflow(name)["nodes"] if node["type"] == "SaFaSubviewPlanner")
    length, _, view, overlap, loop = planner["widgets_values"][:5]
    pocket = any(node["type"] == "SaFaAudioModelLoader" for node in workflow(name)["nodes"])
    scale, own = SCALES.get(name, SECONDS if pocket else (PIXELS[0], VIEWS.get(name, PIXELS[1])))
    return plan_views(round(length / scale), round(view / scale) if view else own, overlap, loop)


def a_clip(folder: Path) -> tuple[Path, Spectrogram]:
    """The recording that CLIP follows: ten seconds of a synthesised drum."""
    wave, _ = SOUNDS["drum"](np.random.default_rng(3), 10.0)
    soundfile.write(folder / "clip.wav", wave, SAMPLE_RATE)
    return folder / "clip.wav", spectrum_of(folder / "clip.wav")


def spectrum_of(path: Path) -> Spectrogram:
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return audio_spectrogram(torch.from_numpy(sound.T), rate)


def start_server(stack: ExitStack, names):
    """A ComfyServer of its own for the workflows `names`, with this pack; it ends with `stack`."""
    from ...demo.server import ComfyServer  # needs what ComfyUI is installed with

    base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safa-thumbnails-")))
    host_setup.link_pack(base / "custom_nodes")
    models = base / "models" / "audio_models"
    models.mkdir(parents=True)
    for name in names:
        for node in workflow(name)["nodes"]:
            if node["type"] == "SaFaAudioModelLoader" and node["widgets_values"][0] != POCKET.name:
                shutil.copytree(POCKET, models / node["widgets_values"][0], dirs_exist_ok=True)
    (base / "input").mkdir()
    a_clip(base / "input")
    device = [] if torch.cuda.is_available() else ["--cpu"]
    server = ComfyServer(host_setup.host_folder(), base, "--whitelist-custom-nodes", run.PACK, *device)
    return stack.enter_context(server)


def ran(name: str, server):
    """The server's Result of a workflow, with STEPS steps and the prompt of PROMPTS; refuses what is not as drawn."""
    prompt = ui_to_api(workflow(name), server.object_info())
    sampler = next(node for node in prompt.values() if "positive" in node["inputs"] and "seed" in node["inputs"])
    sampler["inputs"]["steps"] = STEPS
    for node in prompt.values():
        if node["class_type"] == "LoadAudio":  # the workflow leaves the choice to the user
            node["inputs"]["audio"] = "clip.wav"
    if name in PROMPTS:
        prompt[sampler["inputs"]["positive"][0]]["inputs"]["text"] = PROMPTS[name]
    result = server.run(prompt, timeout=None)
    if result.error is not None:
        raise SystemExit(f"{name}: {result.error['node_type']} failed: {result.error['exception_message'].strip()}")
    said = [text for _, text in result.texts]
    if len(plan_of(name)) > 1 and not any(f"{len(plan_of(name))} views" in text for text in said):
        raise SystemExit(f"{name}: the drawn plan is not the planner's ({said}).")
    return result


def sampled(name: str, server) -> Sound:
    (path,) = server.files(ran(name, server))
    clip = server.base / "input" / "clip.wav"
    return Sound(spectrum_of(path), spectrum_of(clip) if name == CLIP else None)
