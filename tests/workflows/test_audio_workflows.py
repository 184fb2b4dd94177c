"""Each shipped audio workflow, as saved, through the real server, with tiny models in the real formats."""

import struct
import wave

import numpy as np
import pytest
import soundfile
from PIL import Image

from safa_pack.demo.options import WORKFLOW
from safa_pack.tests import tiny_audio, tiny_checkpoints
from safa_pack.tests.demo.stand_in import offer_pocket
from safa_pack.tests.server import PromptRefused, ui_to_api

from .test_workflows import ALL, SIZES, VALIDATED, load, shortened

pytestmark = pytest.mark.server
# What a test changes besides the steps: Oobleck decodes a second of sound in seconds on a CPU, SD 1.5 is as slow.
OPEN, RIFFUSION = "Long audio - Stable Audio Open", "Loop out of pictures - Riffusion"
CLIP, SEAM_CHECK = "Long audio that follows a clip", "Loop seam check - hear, see and measure"
LITE_FOCUS = "Long audio in one window - LiteFocus"
SHORTER = {OPEN: {"length": 4.0, "view": 1.5}, RIFFUSION: {"length": 512.0, "view": 256.0}}
SAMPLES = {
    WORKFLOW.stem: (16000, 24 * 16000),
    "App - long sound from a prompt, seconds and loop": (16000, 24 * 16000),
    "Long audio and loops - AudioLDM 2": (16000, 24 * 16000),
    CLIP: (16000, 24 * 16000),
    OPEN: (44100, round(4 * 44100 / 2048) * 2048),
    RIFFUSION: (44100, 512 * 441),
    LITE_FOCUS: (16000, 512 * 4 * 160),
    "Long audio timeline - rain, then bells, then crickets": (16000, 30 * 16000),
    SEAM_CHECK: (16000, 24 * 16000),
}
LOOPS = set(SAMPLES) - {OPEN, LITE_FOCUS}


@pytest.fixture(scope="session")
def equipped(server):
    """The server with a tiny model under every name that the workflows ask for, and the pack's own where it is."""
    models = server.base / "models"
    offer_pocket(models)
    tiny_audio.audioldm2(models / "audio_models" / "audioldm2")
    tiny_checkpoints.sd15_checkpoint(models / "checkpoints" / "riffusion-model-v1.safetensors")
    tiny_checkpoints.stable_audio_checkpoint(models / "checkpoints" / "stable-audio-open-1.0.safetensors")
    tiny_checkpoints.t5_base(models / "text_encoders" / "t5-base.safetensors")
    noise = np.random.default_rng(0).normal(0, 3000, 12 * 16000).astype("<i2")
    with wave.open(str(server.base / "input" / "clip.wav"), "wb") as clip:
        clip.setparams((1, 2, 16000, 0, "NONE", ""))
        clip.writeframes(noise.tobytes())
    return server


def loop_points(path):
    """(first, last) sample of the smpl chunk's only loop."""
    data, at = path.read_bytes(), 12
    while data[at : at + 4] != b"smpl":
        at += 8 + (struct.unpack_from("<I", data, at + 4)[0] + 1) // 2 * 2
    return struct.unpack_from("<2I", data, at + 8 + 36 + 8)


def test_every_workflow_is_run_by_a_test_or_said_not_to_be():
    assert set(ALL) == {*SIZES, *SAMPLES, *VALIDATED}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_workflow_runs_and_its_sound_has_the_asked_length(equipped, name):
    result = equipped.run(shortened(ui_to_api(load(name), equipped.object_info()), SHORTER.get(name)))
    assert result.error is None, result.error
    (saved,) = equipped.files(result)
    sound, rate = soundfile.read(saved, always_2d=True)
    assert (rate, len(sound)) == SAMPLES[name]
    assert np.isfinite(sound).all() and sound.std() > 1e-4
    if name in LOOPS:
        assert loop_points(saved) == (0, len(sound) - 1)
        wrap = np.abs(sound[0] - sound[-1]).max()
        assert wrap <= np.abs(np.diff(sound, axis=0)).max()
    pictures = [Image.open(path) for path in equipped.files(result, "temp") if path.suffix == ".png"]
    for output in result.outputs.values():  # the viewer of Loop VAE Decode
        for ring in output.get("safa_ring", ()):
            pictures += [Image.open(equipped.base / "temp" / image["filename"]) for image in ring["images"]]
    assert len(pictures) >= 2 and all(np.asarray(picture).std() > 1 for picture in pictures)


def test_safa_plus_of_the_paper_is_two_widgets_and_a_link_away(equipped):
    """As the note of the seam check says it: views joined on the mel spectrogram, the swap moved."""
    prompt = shortened(ui_to_api(load(SEAM_CHECK), equipped.object_info()))
    (swap,) = (name for name, node in prompt.items() if node["class_type"] == "SaFaSelfLoopSwap")
    (decode,) = (node for node in prompt.values() if node["class_type"] == "SaFaMelDecode")
    prompt[swap]["inputs"]["shift"] = 5
    decode["inputs"].update(join_at="mel", join=[swap, 0])
    result = equipped.run(prompt)
    assert result.error is None, result.error
    (saved,) = equipped.files(result)
    assert len(soundfile.read(saved)[0]) == 24 * 16000


@pytest.mark.parametrize("name", sorted(VALIDATED))
def test_a_workflow_for_a_large_model_is_refused_only_for_its_missing_files(server, name):
    workflow = load(name)
    wanted = [model["name"] for node in workflow["nodes"] for model in node["properties"].get("models", [])]
    with pytest.raises(PromptRefused) as refusal:
        server.queue(ui_to_api(workflow, server.object_info()))
    errors = [error for node in refusal.value.node_errors.values() for error in node["errors"]]
    assert {error["type"] for error in errors} == {"value_not_in_list"}
    assert sorted(error["extra_info"]["received_value"] for error in errors) == sorted(wanted)
