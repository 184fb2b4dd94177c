"""The vocoder: training comes nearer and resumes, a loop closes with it, and its comparison measures what it says."""

from dataclasses import replace

import pytest
import torch

from safa_pack.safa_core.vocode import Vocoder, vocoder_reach
from safa_pack.training import loop, vocoder
from safa_pack.training.compare_vocoder import measures
from safa_pack.training.data import MEL
from safa_pack.training.loop import run_stage
from safa_pack.training.vae import new_vae

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    torch.manual_seed(0)
    return vocoder.wave_set(tmp_path_factory.mktemp("waves"), 14, new_vae(-6.0, 2.5))


def short_stage(data, steps):
    torch.manual_seed(0)
    return vocoder.vocoder_stage(data, steps)


def test_training_brings_the_spectra_nearer(data, tmp_path):
    mel, wave = vocoder.crops(data, torch.Generator().manual_seed(1))
    stage = short_stage(data, 30)
    with torch.no_grad():
        before = vocoder.distances(stage.state["vocoder"](mel), wave)
    assert run_stage(stage, tmp_path, seed=0)
    with torch.no_grad():
        after = vocoder.distances(stage.state["vocoder"](mel), wave)
    assert after["log"] < 0.9 * before["log"] and after["mel"] < 0.8 * before["mel"]


def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", 2)
    whole = short_stage(data, 4)
    run_stage(whole, tmp_path / "whole", seed=3)
    broken, parts = short_stage(data, 4), short_stage(data, 4)
    with pytest.raises(KeyboardInterrupt):
        run_stage(replace(broken, step=_stop_before(broken.step, 3)), tmp_path / "parts", seed=3)
    run_stage(parts, tmp_path / "parts", seed=3)
    for name in ("vocoder", "critic"):
        ended = parts.state[name].state_dict()
        assert all(torch.equal(value, ended[key]) for key, value in whole.state[name].state_dict().items())


def _stop_before(step, count):
    def stopping(k, generator):
        if k == count:
            raise KeyboardInterrupt
        return step(k, generator)

    return stopping


def test_a_loop_closes_with_the_vocoder():
    torch.manual_seed(0)
    made = vocoder.new_vocoder(-6.0, 2.5).eval()
    mel = torch.randn(1, 90, MEL.bins) * 2.5 - 6
    hop, before, after = vocoder_reach(made)
    with torch.inference_mode():
        pieces = Vocoder(lambda piece, _: made(piece), hop, before, after, block=37).pieces([mel], loop=True)
        ring = torch.cat([piece for _, piece in pieces], dim=1).roll(before * hop, dims=1)
        endless = made(mel.repeat(1, 3, 1))[:, 90 * hop : 180 * hop]
    torch.testing.assert_close(ring, endless, atol=1e-5, rtol=1e-4)


def test_the_same_sound_is_at_no_distance_and_a_smooth_one_lacks_grain():
    noise = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0)) * 0.05
    impulses = torch.zeros(1, 16000)
    impulses[:, ::40] = 0.05 * 40**0.5  # as loud, with a spectrum of equal lines
    same, smooth = measures(noise, noise), measures(impulses, noise)
    assert same["mel"] == 0 and same["stft"] == 0 and same["grain"] == 1
    assert smooth["mel"] > 0.1 and smooth["stft"] > 0.1 and not 0.9 < smooth["grain"] < 1.1
