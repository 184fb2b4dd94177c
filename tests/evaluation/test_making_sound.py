"""Audio models of the pack's loader in the paper's protocols: batches against single prompts, loops, real clips."""

import json

import numpy as np
import pytest
import soundfile
import torch

from safa_pack.evaluation import windows
from safa_pack.evaluation.clips import Real, read_prompts
from safa_pack.evaluation.command import main
from safa_pack.evaluation.making.audio import AudioModel
from safa_pack.evaluation.making.methods import method
from safa_pack.evaluation.making.pocket import PocketModel
from safa_pack.evaluation.making.sampling import Sampling, Task
from safa_pack.evaluation.protocol import load
from safa_pack.evaluation.scores import SCORES, Measures, Score
from safa_pack.nodes.audio.loader import audio_parts
from safa_pack.safa_core import plan_views
from safa_pack.tests import tiny_audio
from safa_pack.tests.evaluation import pocket

pytestmark = pytest.mark.host

CPU = torch.device("cpu")
PROMPTS = ["rain", "a dog barks twice in a large hall"]


def model_of(kind, folder):
    return AudioModel(tiny_audio.FAMILIES[kind](folder / kind), CPU, 3)


@pytest.mark.parametrize("kind", tiny_audio.FAMILIES)
@torch.no_grad()
def test_guided_batches_are_each_prompt_by_itself(kind, tmp_path):
    """Unequal lengths, padded under masks, time and frequency turned, calls of three windows."""
    model = model_of(kind, tmp_path)
    parts = audio_parts(tmp_path / kind)
    latents = torch.randn(2, *model.latent_shape(24), generator=torch.Generator().manual_seed(1))
    t = torch.tensor(601)
    found = model.guided(latents, t, model.encode(PROMPTS), model.encode([""]), 2.5)

    def alone(x, text):
        cond, pooled, *extra = parts.text.encode_token_weights(parts.tokenizer.tokenize_with_weights(text))
        if extra:
            prompt = {"context": cond, "context_1": extra[0]["audioldm2_t5"]}
        else:
            prompt = {"context": cond} if pooled is None else {"y": pooled}
        return parts.unet(x.transpose(-1, -2), t, **prompt).transpose(-1, -2)

    for i, text in enumerate(PROMPTS):
        x = latents[i : i + 1]
        negative = alone(x, "")
        expected = negative + 2.5 * (alone(x, text) - negative)
        assert torch.allclose(found[i : i + 1], expected, atol=2e-5)
    assert model.evaluations == 4


@torch.inference_mode()
def test_a_pocket_folder_gives_what_the_pocket_evaluation_gives(tmp_path):
    folder = pocket.write(tmp_path / "pocket")
    index = {"_class_name": "SaFaPocket", "unet": ["diffusers", "UNet2DConditionModel"], "vocoder": [None, None]}
    index |= {"vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "T5EncoderModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    views = plan_views(40, pocket.VIEW, 0.2, loop=True)
    for name in ("safa", "merge_attend"):
        task = Task(Sampling(2, 2.5, rate=0.5), views, ["rain", "a rain"], [(0, 0), (1, 0)])
        ours, theirs = AudioModel(folder, CPU, 5), PocketModel(folder, CPU, 5)
        assert ours.view == theirs.view == pocket.VIEW
        assert torch.allclose(method(name)(ours, task), method(name)(theirs, task), atol=1e-4)
    assert len(ours.prompts) == 9 and len(set(ours.prompts)) == 9


def test_lengths_follow_the_models_own_window(tmp_path):
    model = model_of("audioldm2", tmp_path)
    part = load("table2").part("audio")
    assert model.view == tiny_audio.COLUMNS == 32 and model.seconds == pytest.approx(1.28)
    views = part.plan(part.rows[2], model.columns)
    assert (len(views), views.view, views.length, views.loop) == (3, 32, 75, True)
    wave = torch.arange(75.0 * 640)
    slid = windows.slid(model, part, part.rows[2], wave)
    assert slid.shape == (3, 32 * 640)
    assert slid[:, 0].tolist() == [0, 25 * 640, 50 * 640] and slid[2, -1] == 7 * 640 - 1  # the third goes round
    with pytest.raises(ValueError, match="MAD.*choose other rows"):
        windows.check(model, part)  # 25 columns are no multiple of the coarsest tokens


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    tiny_audio.FAMILIES["audioldm2"](folder / "ldm2")
    (folder / "real").mkdir()
    for name, hertz in (("a", 220), ("b", 440)):
        sound = np.sin(2 * np.pi * hertz * np.arange(8000) / 22050)
        soundfile.write(folder / "real" / f"{name}.wav", np.stack([sound, 0 * sound], 1), 22050)
    (folder / "prompts.txt").write_text("a.wav\train\nb.wav\ta dog barks\n", encoding="utf-8")
    return folder


def test_real_clips_are_resampled_mixed_and_filled_up(place):
    prompts, named = read_prompts(place / "prompts.txt")
    assert prompts == ["rain", "a dog barks"] and named == ["a.wav", "b.wav"]
    real = Real(tuple(place / "real" / name for name in named))
    sound = real.window(0, 16000, 1.28)
    assert sound.shape == (1, 20480)
    end = round(8000 / 22050 * 16000)
    middle = sound[0, 500 : end - 500]
    expected = 0.5 * torch.sin(2 * torch.pi * 220 * torch.arange(500, end - 500) / 16000)
    assert torch.allclose(middle, expected, atol=2e-3) and not sound[0, end + 10 :].any()
    (place / "real" / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match="text.wav"):
        Real((place / "real" / "text.wav",)).window(0, 16000, 1.28)


def test_table_5_runs_on_audioldm2_and_compares_with_the_real_clips(place, tmp_path, monkeypatch):
    """Loudness as the feature: what the table says is computed once more from the sounds it kept."""

    def loudness(samples, folder):
        return Measures(samples.windows.square().mean(1).sqrt()[:, None], samples.prompts, samples.positions)

    def apart(generated, real):
        return float((generated.rows.mean() - real.rows.mean()).abs())

    score = Score("loud", "Loud↓", "audio", "lower", True, lambda folder: None, loudness, apart)
    monkeypatch.setitem(SCORES, "loud", score)
    given = ["--protocol", "table5", "--model", str(place / "ldm2"), "--data", str(tmp_path), "--steps", "1"]
    given += ["--prompts", str(place / "prompts.txt"), "--real", str(place / "real"), "--device", "cpu"]
    given += ["--rows", "Model (10s)", "SaFa (32s)", "--also", "loud", "--weights", str(tmp_path), "--chunk", "2"]
    assert main(given) == 0
    root = tmp_path / "paper" / "table5"
    lines = [json.loads(line) for line in (root / "table5.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line.get("row") for line in lines] == [None, "Model (10s)", "SaFa (32s)"]
    assert any("every length is 0.125 of the protocol's" in said for said in lines[0]["facts"]["sentences"])
    assert lines[2]["views"] == 4 and lines[1]["scores"]["fd"] is None and "no weights" in lines[1]["missing"]["fd"]
    from safetensors.torch import load_file

    model = AudioModel(place / "ldm2", CPU, 3)
    real = Real((place / "real" / "a.wav", place / "real" / "b.wav"))
    target = torch.stack([real.window(i, 16000, 1.28)[0].square().mean().sqrt() for i in (0, 1)]).mean()
    files = sorted((root / "ldm2" / "shard-0-of-1").glob("safa-*s0000.safetensors"))
    sounds = [model.decode(load_file(path)["canvas"], True)[0] for path in files]
    column = 640
    values = []
    for start in (0, 25, 50, 75):
        windows = [sound.roll(-start * column)[: 32 * column] for sound in sounds]
        values.append((torch.stack([w.square().mean().sqrt() for w in windows]).mean() - target).abs())
    assert lines[2]["scores"]["loud"] == pytest.approx(float(sum(values) / 4), rel=1e-3)
    assert (root / "ldm2" / "shard-0-of-1" / f"{files[0].stem}.png").is_file()


def test_an_image_protocol_is_refused_for_sound(place, tmp_path, capsys):
    assert main(["--protocol", "table3", "--model", str(place / "ldm2"), "--data", str(tmp_path)]) == 1
    assert "Expected an image model for protocol table3, got an audio model" in capsys.readouterr().err
