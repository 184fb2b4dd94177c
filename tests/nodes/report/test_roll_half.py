import re

import pytest
import torch

import folder_paths
from comfy_execution.graph_utils import ExecutionBlocker

from safa_pack.nodes.report.roll_half import SaFaRollHalf
from safa_pack.safa_core.measures.seam import picture_seam, sound_seam

pytestmark = pytest.mark.host

RATE = 8000


@pytest.fixture(autouse=True)
def previews(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))


def rolled(**inputs):
    """Runs the node as the host does."""
    node = SaFaRollHalf.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    return node.execute(**({"axis": "auto"} | inputs))


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("shape", "axis", "along", "place"),
    [
        ((2, 30, 44, 3), "auto", 2, "column 22"),
        ((1, 45, 30, 3), "auto", 1, "row 22"),
        ((1, 30, 44, 4), "height", 1, "row 15"),
    ],
)
def test_a_pictures_ends_meet_in_the_middle(shape, axis, along, place):
    image = noise(*shape)
    sound, picture, score, info = rolled(image=image, axis=axis).result
    half = shape[along] // 2
    start, end = image.split([shape[along] - half, half], along)
    assert torch.equal(picture, torch.cat([end, start], along))
    assert score == picture_seam(image, along)
    assert info == f"seam at {place}, score {score:.3g} (1 or less: no seam)"
    assert isinstance(sound, ExecutionBlocker)


def test_a_sounds_ends_meet_in_the_middle():
    waveform = noise(2, 2, RATE + 1) - 0.5
    out = rolled(audio={"waveform": waveform, "sample_rate": RATE})
    sound, picture, score, info = out.result
    assert torch.equal(
        sound["waveform"], torch.cat([waveform[..., RATE // 2 + 1 :], waveform[..., : RATE // 2 + 1]], 2)
    )
    assert sound["sample_rate"] == RATE
    seam = sound_seam(waveform, RATE)
    assert score == seam.score == max(seam.click, seam.change)
    assert info.startswith(f"seam at 0.5 s, score {score:.3g} (1 or less: no seam); jump of the waveform")
    assert picture.shape[0] == 2  # a spectrogram of each clip
    assert {"audio", "images", "text"} <= out.ui.keys() and len(out.ui["audio"]) == 2


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "expected audio or an image, got neither"),
        (
            {"audio": {"waveform": torch.zeros(1, 1, 99), "sample_rate": 9}, "image": torch.zeros(1, 9, 9, 3)},
            "got both",
        ),
        ({"audio": {"waveform": torch.zeros(1, 1, 0), "sample_rate": 9}}, "expected audio [batch, channels, samples]"),
        ({"audio": {"waveform": torch.zeros(1, 1, 99), "sample_rate": 9}}, "at least 288 samples, got 99"),
        ({"audio": {"waveform": torch.full((1, 1, 999), torch.nan), "sample_rate": 9}}, "holds NaN"),
        ({"image": torch.zeros(1, 9, 9, 3)}, "at least 18 pixels along the loop, got 9"),
        ({"image": torch.full((1, 20, 20, 3), torch.inf)}, "the picture holds NaN or infinity"),
    ],
)
def test_wrong_input_is_refused(inputs, words):
    with pytest.raises(ValueError, match=r"^Roll by Half \(Seam Check\): .*" + re.escape(words)):
        rolled(**inputs)
