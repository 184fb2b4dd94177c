"""Training: the loss falls, an interruption costs nothing, and the result is a model that the libraries load."""

import json

import numpy as np
import pytest
import torch

from safa_pack.training import diffusion, loop, train, vae, vocoder
from safa_pack.training.data import FRAMES, MEL, ClipSet, clip_set
from safa_pack.training.loop import Stage, checkpoint, run_stage
from safa_pack.training.nearest import likeness
from safa_pack.training.text import new_text_encoder, new_tokenizer

pytestmark = pytest.mark.tools


def line_stage(steps):
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 1)
    optimiser = torch.optim.Adam(model.parameters())

    def step(k, generator):
        x = torch.randn(16, 3, generator=generator)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return {"loss": loss.detach()}

    return Stage("line", steps, 0.05, {"model": model, "optimiser": optimiser}, step)


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = line_stage(80)
    assert run_stage(whole, tmp_path / "whole", seed=3)
    first = line_stage(80)
    stopped = Stage("line", 80, 0.05, first.state, _stop_after(first.step, 30))
    with pytest.raises(KeyboardInterrupt):
        run_stage(stopped, tmp_path / "parts", seed=3)
    second = line_stage(80)
    assert run_stage(second, tmp_path / "parts", seed=3)
    assert torch.equal(whole.state["model"].weight, second.state["model"].weight)


def _stop_after(step, count):
    def stopping(k, generator):
        if k == count:
            raise KeyboardInterrupt
        return step(k, generator)

    return stopping


def test_time_that_is_over_leaves_a_checkpoint_and_says_so(tmp_path):
    assert not run_stage(line_stage(80), tmp_path, seed=0, deadline=0.0)
    assert checkpoint(tmp_path, "line").is_file()
    assert run_stage(line_stage(80), tmp_path, seed=0)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_a_checkpoint_of_another_recipe_is_refused_in_one_sentence(tmp_path):
    run_stage(line_stage(10), tmp_path, seed=0)
    other = line_stage(10)
    wide = torch.nn.Linear(5, 1)
    stage = Stage("line", 10, 0.05, {"model": wide, "optimiser": torch.optim.Adam(wide.parameters())}, other.step)
    with pytest.raises(ValueError, match="another recipe"):
        run_stage(stage, tmp_path, seed=0)


def test_clips_are_kept_and_a_broken_off_set_is_made_again(tmp_path):
    made = clip_set(tmp_path, 3, workers=1)
    assert made.mels.shape == (3, FRAMES, MEL.bins) and len(made.captions) == 3
    heard = MEL.spectrogram(torch.from_numpy(made.waves[1:2].astype("float32") / 32768))
    assert (heard - torch.from_numpy(made.mels[1:2].astype("float32"))).abs().mean() < 0.1
    (tmp_path / "clips_3.json").unlink()
    again = clip_set(tmp_path, 3, workers=1)
    assert (made.mels == again.mels).all() and made.captions == again.captions


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """One clip of every kind, as training makes them without recordings."""
    return clip_set(tmp_path_factory.mktemp("clips"), 16, workers=1)


def shortened(clips, frames):
    """Their first frames only."""
    return ClipSet(clips.mels[:, :frames].copy(), clips.captions, clips.waves[:, : frames * MEL.hop].copy())


def test_the_autoencoder_and_the_denoiser_learn_within_seconds(clips, monkeypatch):
    clips = shortened(clips, 160)
    monkeypatch.setattr(vae, "LENGTHS", (64,))
    monkeypatch.setattr(vae, "BATCH_FRAMES", 128)
    monkeypatch.setattr(diffusion, "LENGTHS", (8,))
    monkeypatch.setattr(diffusion, "SHARES", (1.0,))
    monkeypatch.setattr(diffusion, "MOST", 8)
    torch.manual_seed(0)
    encoder = vae.vae_stage(clips, 24, mean=-4.5, std=2.0)
    assert falls(encoder, "l1", 24) < 0.8
    autoencoder = encoder.state["vae"].eval()
    vae.standardise(autoencoder, clips)
    latents = diffusion.encode_clips(autoencoder, clips)
    assert latents.latents.float().std() == pytest.approx(1, abs=0.3)
    denoiser = diffusion.denoiser_stage(latents, new_tokenizer(clips.captions), 24)
    assert falls(denoiser, "loss", 24) < 0.9


def test_the_vocoder_learns_within_seconds(clips, monkeypatch):
    monkeypatch.setattr(vocoder, "FRAMES", 16)
    monkeypatch.setattr(vocoder, "BATCH", 2)
    monkeypatch.setattr(vocoder, "ADVERSARY_FROM", 16)
    monkeypatch.setattr(vocoder, "RESOLUTIONS", ((512, 128),))
    torch.manual_seed(0)
    stage = vocoder.vocoder_stage(clips, 20, mean=-4.5, std=2.0)
    assert falls(stage, "mel", 20) < 0.9
    assert stage.state["vocoder"](torch.zeros(1, 7, MEL.bins)).shape == (1, 7 * MEL.hop)
    wave = torch.from_numpy(clips.waves[3, : 64 * MEL.hop].astype(np.float32)) / 32768
    own, griffin_lim = vocoder.distances(stage.state["vocoder"], [wave])
    assert own > griffin_lim  # which needs no training


def test_words_that_mean_one_kind_begin_together_and_letters_change_little():
    tokenizer = new_tokenizer(["rain on a roof"])
    torch.manual_seed(0)
    vectors = new_text_encoder(tokenizer).shared.weight.detach()

    def alike(one, other):
        pair = (vectors[tokenizer.convert_tokens_to_ids(word)] for word in (one, other))
        return torch.nn.functional.cosine_similarity(*pair, dim=0)

    assert alike("downpour", "drizzle") > 0.8 > 0.3 > alike("downpour", "violin")
    assert vectors[tokenizer("zebra").input_ids[:-1]].std() < 0.2 * vectors.std()


def falls(stage, name, steps):
    """Mean loss of the last quarter over that of the first."""
    for part in stage.state.values():
        for group in getattr(part, "param_groups", ()):
            group["lr"] = stage.rate
    losses = [float(stage.step(k, torch.Generator().manual_seed(k))[name]) for k in range(steps)]
    quarter = steps // 4
    return sum(losses[-quarter:]) / sum(losses[:quarter])


def test_standardising_the_latents_changes_no_reconstruction(clips):
    clips = shortened(clips, 160)
    torch.manual_seed(0)
    model = vae.new_vae(-4.5, 2.0).eval()
    mel = torch.from_numpy(clips.mels[:2, :64].copy()).float()[:, None]
    with torch.no_grad():
        before = model.decode(model.encode(mel).latent_dist.mean).sample
        vae.standardise(model, clips)
        after = model.decode(model.encode(mel).latent_dist.mean).sample
    assert (before - after).abs().max() < 1e-4


@pytest.mark.parametrize(
    "given, expected", [(["--clips", "0"], "positive"), (["--steps", "-3"], "positive"), (["--minutes", "x"], "float")]
)
def test_bad_numbers_are_refused_before_anything_is_made(given, expected, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.main([*given, "--work", str(tmp_path / "work")])
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_one_command_makes_a_model_folder_that_the_libraries_load(tmp_path, monkeypatch, capsys):
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import AutoTokenizer, SpeechT5HifiGan, T5EncoderModel

    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(train, "clip_set", lambda *given: shortened(clip_set(*given), 160))
    monkeypatch.setattr(vae, "BATCH_FRAMES", 64)
    monkeypatch.setattr(vae, "LENGTHS", (64,))
    monkeypatch.setattr(diffusion, "LENGTHS", (8,))
    monkeypatch.setattr(diffusion, "SHARES", (1.0,))
    monkeypatch.setattr(diffusion, "MOST", 2)
    out = tmp_path / "model"
    monkeypatch.setattr(vocoder, "FRAMES", 16)
    monkeypatch.setattr(vocoder, "RESOLUTIONS", ((512, 128),))
    steps = ["--clips", "16", "--vae-steps", "2", "--steps", "2", "--vocoder-steps", "2", "--no-recordings"]
    monkeypatch.setattr(train, "distances", lambda *given: (0.1, 0.2))
    assert train.main([*steps, "--work", str(tmp_path / "w"), "--out", str(out)]) == 0
    for kind, name in ((AutoencoderKL, "vae"), (UNet2DConditionModel, "unet"), (T5EncoderModel, "text_encoder")):
        kind.from_pretrained(out / name, local_files_only=True, torch_dtype=torch.float32)
    assert DDIMScheduler.from_pretrained(out / "scheduler").config.prediction_type == "v_prediction"
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer", local_files_only=True)
    assert tokenizer.unk_token_id not in tokenizer("Rain, and a zebra").input_ids
    SpeechT5HifiGan.from_pretrained(out / "vocoder", local_files_only=True)
    assert "vocoder 0.100, Griffin-Lim 0.200" in capsys.readouterr().out
    assert json.loads((out / "model_index.json").read_text())["vae"] == ["diffusers", "AutoencoderKL"]
    assert sum(file.stat().st_size for file in out.rglob("*")) < 20e6
    assert {json.loads(line)["stage"] for line in (out / "training_log.jsonl").open()} == {"vae", "denoiser", "vocoder"}
    assert "seed 0" in (out / "README.md").read_text()
    assert not list(tmp_path.glob("*.part")) and not (out / "CREDITS.md").exists()
    further = ["--begin", str(out), "--work", str(tmp_path / "w2"), "--out", str(tmp_path / "further")]
    monkeypatch.setattr(train, "distances", lambda *given: (0.2, 0.1))
    assert train.main([*steps, *further]) == 0
    assert not (tmp_path / "further" / "vocoder").exists()


def test_a_copy_is_found_in_the_clips_at_any_offset_level_and_colour(clips):
    mels = clips.mels.astype(np.float32)
    tilt = torch.linspace(-3, 2, MEL.bins)
    copies = torch.stack([torch.from_numpy(mels[number, 37:293]) + tilt for number in (3, 11)])
    best, which = likeness(copies, clips.mels)
    assert which.tolist() == [3, 11] and best.min() > 0.99
    others, _ = likeness(copies, np.delete(clips.mels, (3, 11), axis=0))
    assert others.max() < 0.7
