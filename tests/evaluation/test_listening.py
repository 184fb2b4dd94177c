"""Listening to the prompts that people meet first: none is forgotten, and what is said of a sound is so."""

import json

import pytest
import torch

from safa_pack.bootstrap import host
from safa_pack.evaluation.listening import HEAD, heard, keep, named_prompts
from safa_pack.evaluation.scores.kinds import KINDS, kinds_of

pytestmark = pytest.mark.tools
RATE = 16000


class Ears:
    """Says what it is told to: a network of random weights hears nothing that could be named."""

    names = ("Rain", "Bell", "Music", "Speech", "Wind", "Silence")

    def windows(self, sound, rate):
        kinds = torch.tensor([[kind == "rain" for kind in KINDS]]).float()
        return {"logits": torch.tensor([[0.5, 0.1, 0.9, 0.2, 0.3, 0.4]]).logit(), "heard": kinds}


def test_the_prompts_of_workflows_and_readme_are_known_and_name_kinds(tmp_path):
    prompts = named_prompts()
    assert "crickets at night" in prompts and "gentle rain with distant bells" in prompts
    assert all(kinds_of(prompt) for prompt in prompts)
    (tmp_path / "workflows").mkdir()
    (tmp_path / "demo").mkdir()
    (tmp_path / "README.md").write_text('run.py demo --prompt "a clock"', encoding="utf-8")
    nodes = [
        {"type": "SaFaAudioModelLoader", "widgets_values": ["safa-pocket"]},
        {"type": "SaFaPromptTimeline", "widgets_values": ["0-10: rain\n10-20: a slow drum", 0.3]},
        {"type": "CLIPTextEncode", "widgets_values": [""]},
    ]
    for name, kept in (("mine", nodes), ("another model's", nodes[1:])):
        (tmp_path / "workflows" / f"{name}.json").write_text(json.dumps({"nodes": kept}), encoding="utf-8")
    assert named_prompts(tmp_path) == {
        "rain": ["mine.json"],
        "a slow drum": ["mine.json"],
        "a clock": ["README.md"],
    }


def test_a_sound_is_told_with_what_is_heard_and_how_loud_it_came_out():
    sound = 0.1 * torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0))
    sound[0, 100:103] = torch.tensor([1.5, -2.0, 0.2])
    told = heard(Ears(), "rain with bells", sound, RATE)
    assert told.kinds == {"rain": True, "bells": False} and told.loudest[0][0] == "Music"
    assert (told.peak, told.beyond) == (2.0, 2)
    row = told.row()
    assert len(row) == len(HEAD) and row[1] == "no bells"


def test_the_kept_file_does_not_clip(tmp_path):
    import soundfile

    host()
    sound = torch.linspace(-3, 3, RATE)[None]
    keep(tmp_path / "sound", sound, RATE, "a ramp")
    back, rate = soundfile.read(tmp_path / "sound.wav")
    assert rate == RATE and abs(back - 0.33 * sound[0].numpy()).max() < 1e-4
    assert (tmp_path / "sound.png").stat().st_size > 1000
