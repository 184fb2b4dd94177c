"""Scores of sound on tiny backbones against computations by hand."""

import itertools
import math
import pickle
import zipfile

import numpy
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional

from safa_pack.evaluation.scores import SCORES, Samples, metrics, panns, vggish
from safa_pack.evaluation.scores.sound import resampled
from safa_pack.tests.evaluation import tiny_backbones as tiny

pytestmark = pytest.mark.tools
PROMPTS = ("rain on a roof", "rain on a roof", "far bells", "far bells")


def tones(count, seconds=1.2, rate=16000, seed=0):
    """Different chords with some noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * rate)) / rate
    pitch = 100 * 2 ** (5 * torch.rand(count, 3, 1, generator=generator))
    noise = 0.05 * torch.randn(count, len(time), generator=generator)
    return 0.2 * torch.sin(2 * math.pi * pitch * time).sum(1) + noise


def samples(count=4, seed=0, prompts=PROMPTS, rate=16000, seconds=1.2):
    canvas = tuple(i // 2 for i in range(count))
    prompts = tuple(itertools.islice(itertools.cycle(prompts), count))
    return Samples(tones(count, seconds, rate, seed), canvas, prompts, rate)


def written(folder, name, weights):
    path = folder / "evaluation" / name
    path.mkdir(parents=True)
    torch.save(weights, path / f"{name}.pth")
    return folder


def calibrated(folder, weights):
    """A CNN14 whose normalisations fit these sounds, so that it tells them apart."""
    network = panns.Panns(folder / "evaluation/panns/panns.pth")
    for layer in network.network.train().modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1
    network.windows(samples(6, rate=network.rate).windows, network.rate)
    fitted = weights | {name: value.clone() for name, value in network.network.state_dict().items()}
    torch.save({"model": fitted, "iteration": 7}, folder / "evaluation/panns/panns.pth")
    return fitted


def literal_panns(sound, weights, fft, hop):
    """Kong et al.'s CNN14 from the state alone: frames by loops, layers by torch's functions."""
    padded = numpy.pad(sound.double().numpy(), fft // 2, mode="reflect")
    window = 0.5 - 0.5 * numpy.cos(2 * numpy.pi * numpy.arange(fft) / fft)
    starts = range(0, len(padded) - fft + 1, hop)
    power = numpy.stack([abs(numpy.fft.rfft(window * padded[s : s + fft])) ** 2 for s in starts])
    mel = 10 * numpy.log10(numpy.maximum(1e-10, power @ weights["logmel_extractor.melW"].double().numpy()))
    state = {name: value.double() for name, value in weights.items()}

    def norm(x, name):
        mean, variance, scale, offset = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + offset

    x = norm(torch.from_numpy(mel).T[:, :, None], "bn0").permute(2, 1, 0)  # [1, frames, bins]
    for i in range(1, 7):
        for j in (1, 2):
            convolved = functional.conv2d(x[None], state[f"conv_block{i}.conv{j}.weight"], padding=1)[0]
            x = norm(convolved, f"conv_block{i}.bn{j}").clamp_min(0)
        if i < 6:
            x = functional.avg_pool2d(x[None], 2)[0]
    x = x.mean(2)
    embedding = (state["fc1.weight"] @ (x.max(1).values + x.mean(1)) + state["fc1.bias"]).clamp_min(0)
    return embedding, state["fc_audioset.weight"] @ embedding + state["fc_audioset.bias"]


@pytest.mark.parametrize("fft, rate, hop", [(512, 16000, 160), (1024, 32000, 320)])
def test_fd_and_kl_are_those_of_panns(tmp_path, fft, rate, hop):
    weights = calibrated(written(tmp_path, "panns", {"model": tiny.panns(fft)}), tiny.panns(fft))
    generated, real = samples(6, rate=rate), samples(6, seed=1, rate=rate)
    found = [[literal_panns(window, weights, fft, hop) for window in s.windows] for s in (generated, real)]
    embeddings, logits = ([torch.stack([pair[k] for pair in side]) for side in found] for k in (0, 1))
    expected = metrics.frechet_distance(*embeddings)
    assert expected > 1e-3
    assert SCORES["fd"].compute(generated, real, tmp_path) == pytest.approx(expected, rel=1e-3)
    partners = [0, 1, 2, 3, 4, 5]  # the same prompts in the same order
    given, wanted = logits[0].softmax(1) + 1e-6, logits[1][partners].softmax(1)
    expected = float((wanted * (wanted.log() - given.log())).sum(1).mean())
    assert expected > 1e-3
    assert SCORES["kl"].compute(generated, real, tmp_path) == pytest.approx(expected, rel=1e-3)


def test_panns_published_checkpoint_with_its_samplers_arrays_is_read_without_unpickling_more(tmp_path):
    written(tmp_path, "panns", {"model": tiny.panns(), "sampler": {"indexes": numpy.arange(5)}})
    expected = SCORES["fd"].compute(samples(6), samples(6, seed=1), tmp_path)
    with zipfile.ZipFile(tmp_path / "evaluation/panns/panns.pth") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    new, old = b"cnumpy._core.multiarray", b"cnumpy.core.multiarray"  # NumPy 1's name of the same function
    renamed = {name: data.replace(new, old) for name, data in entries.items()}
    assert renamed != entries
    (tmp_path / "old/evaluation/panns").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "old/evaluation/panns/Cnn14_16k.pth", "w") as archive:
        for name, data in renamed.items():
            archive.writestr(name, data)
    assert SCORES["fd"].compute(samples(6), samples(6, seed=1), tmp_path / "old") == expected


class Dangerous:
    def __reduce__(self):
        return (print, ("ran",))


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path, capsys):
    written(tmp_path, "panns", {"model": tiny.panns(), "more": Dangerous()})
    with pytest.raises(ValueError, match="does not hold usable weights"):
        SCORES["fd"].compute(samples(), samples(), tmp_path)
    assert "ran" not in capsys.readouterr().out
    assert pickle.dumps(Dangerous())  # it is one that pickle takes


def literal_vggish(sound, weights):
    """Hershey et al.'s VGGish from the state alone: [examples, 128]."""
    sound, state = sound.double().numpy(), {name: value.double() for name, value in weights.items()}
    window = 0.5 - 0.5 * numpy.cos(2 * numpy.pi * numpy.arange(400) / 400)
    frames = [sound[s : s + 400] * window for s in range(0, len(sound) - 399, 160)]
    magnitude = numpy.stack([abs(numpy.fft.rfft(frame, 512)) for frame in frames])

    def mel(hz):
        return 1127 * math.log(1 + hz / 700)

    edges = [mel(125) + (mel(7500) - mel(125)) * i / 65 for i in range(66)]
    filters = numpy.zeros((257, 64))
    for k in range(1, 257):
        place = mel(k * 8000 / 256)
        for i in range(64):
            rising = (place - edges[i]) / (edges[i + 1] - edges[i])
            falling = (edges[i + 2] - place) / (edges[i + 2] - edges[i + 1])
            filters[k, i] = max(0.0, min(rising, falling))
    log_mel = torch.from_numpy(numpy.log(magnitude @ filters + 0.01))
    found = []
    for k in range(len(log_mel) // 96):
        x = log_mel[96 * k : 96 * (k + 1)][None, None]
        for number in (0, 3, 6, 8, 11, 13):
            layer = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
            x = functional.conv2d(x, *layer, padding=1).clamp_min(0)
            x = functional.max_pool2d(x, 2) if number not in (6, 11) else x
        x = x[0].permute(1, 2, 0).flatten()  # time, frequency, channels
        for number in (0, 2, 4):
            x = state[f"embeddings.{number}.weight"] @ x + state[f"embeddings.{number}.bias"]
            x = x.clamp_min(0) if number < 4 else x
        found.append(x)
    return torch.stack(found)


@pytest.mark.parametrize("torchaudio_names", [False, True])
def test_fad_is_that_of_vggish_on_every_096_seconds(tmp_path, torchaudio_names):
    weights = tiny.vggish()
    names = {"features.": "features_network.", "embeddings.": "embedding_network."} if torchaudio_names else {}
    renamed = dict(weights)
    for ours, theirs in names.items():
        renamed = {key.replace(ours, theirs): value for key, value in renamed.items()}
    written(tmp_path, "vggish", renamed)
    generated, real = samples(5, seconds=2.1), samples(5, seed=1, seconds=2.1)
    found = [torch.cat([literal_vggish(window, weights) for window in s.windows]) for s in (generated, real)]
    assert len(found[0]) == 10  # two examples of each window
    expected = metrics.frechet_distance(*found)
    assert expected > 1e-3
    assert SCORES["fad"].compute(generated, real, tmp_path) == pytest.approx(expected, rel=1e-3)


def test_every_vggish_row_knows_the_prompt_and_place_of_its_window(tmp_path):
    measured = SCORES["fad"].measure(samples(4, seconds=2.1), written(tmp_path, "vggish", tiny.vggish()))
    assert measured.prompts == tuple(prompt for prompt in PROMPTS for _ in range(2))
    assert measured.positions == (0, 0, 1, 1, 0, 0, 1, 1)


def clap_by_hand(folder, windows, prompts):
    """(audio embeddings, text embeddings), a window and a prompt at a time, at 48 kHz."""
    model = transformers.ClapModel.from_pretrained(folder).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    with torch.inference_mode():
        heard = [extractor(window.numpy(), sampling_rate=48000, return_tensors="pt") for window in windows]
        mels = [h["input_features"] for h in heard]
        audio = [model.get_audio_features(input_features=mel, is_longer=torch.zeros(1, 1).bool()) for mel in mels]
        ids = [[0, *(tiny.WORDS.index(word) for word in prompt.split()), 2] for prompt in prompts]
        text = [model.get_text_features(input_ids=torch.tensor([row])) for row in ids]
    return [torch.cat([part.pooler_output for part in side]) for side in (audio, text) if side]


@pytest.mark.parametrize("fused", [False, True])
def test_clap_is_the_cosine_of_sound_and_prompt(tmp_path, fused):
    given = samples(rate=48000)
    audio, text = clap_by_hand(tiny.clap(tmp_path, fused), given.windows, PROMPTS)
    cosines = [float(a @ t / a.norm() / t.norm()) for a, t in zip(audio, text, strict=True)]
    assert max(cosines) - min(cosines) > 1e-4
    assert SCORES["clap"].compute(given, None, tmp_path) == pytest.approx(sum(cosines) / 4, abs=1e-5)


def test_intra_clap_is_the_cosine_within_canvases_only(tmp_path):
    given = samples(rate=48000)
    audio, _ = clap_by_hand(tiny.clap(tmp_path), given.windows, PROMPTS)
    unit = audio / audio.norm(dim=1, keepdim=True)
    expected = float(unit[0] @ unit[1] + unit[2] @ unit[3]) / 2
    assert abs(expected - float(unit[0] @ unit[2])) > 1e-4
    assert SCORES["intra_clap"].compute(given, None, tmp_path) == pytest.approx(expected, abs=1e-5)


def test_fd_over_clap_takes_claps_embeddings(tmp_path):
    tiny.clap(tmp_path)
    given, real = samples(5, rate=48000), samples(5, seed=1, rate=48000)
    found = [clap_by_hand(tmp_path / "evaluation/clap", s.windows, ())[0] for s in (given, real)]
    expected = metrics.frechet_distance(*found)
    assert SCORES["fd@clap"].compute(given, real, tmp_path) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_clap_hears_the_middle_of_a_window_of_1024_and_does_not_draw_lots(tmp_path, fused):
    tiny.clap(tmp_path, fused)
    whole = samples(2, rate=48000, seconds=10.24)
    middle = Samples(whole.windows[:, 5760 : 5760 + 480000], whole.canvas, whole.prompts, 48000)
    numpy.random.seed(0)
    first = SCORES["clap"].compute(whole, None, tmp_path)
    numpy.random.seed(1)
    assert SCORES["clap"].compute(middle, None, tmp_path) == pytest.approx(first, abs=1e-6)
    edges = whole.windows.clone()
    edges[:, :5000] = 0
    assert SCORES["clap"].compute(Samples(edges, whole.canvas, whole.prompts, 48000), None, tmp_path) == first


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 16000), (16000, 48000), (22050, 32000)])
def test_a_tone_is_the_same_tone_at_another_rate(rate, wanted):
    def tone(hz):
        return torch.sin(2 * math.pi * 440 * torch.arange(hz) / hz)[None]

    got = resampled(tone(rate), rate, wanted)
    assert got.shape == (1, wanted) and got.dtype == torch.float32
    inside = slice(wanted // 50, -wanted // 50)  # its ends fall off to silence
    assert (got - tone(wanted))[:, inside].abs().max() < 2e-3


def test_sound_at_another_rate_is_resampled(tmp_path):
    tiny.clap(tmp_path)
    time = torch.arange(48000) / 48000
    tone, higher = (torch.sin(2 * math.pi * pitch * time)[None].repeat(2, 1) for pitch in (440, 1320))
    first, same, other = (
        SCORES["fd@clap"].measure(Samples(windows, (0, 0), PROMPTS[:2], rate), tmp_path).rows[0]
        for windows, rate in ((tone, 48000), (tone[:, ::3], 16000), (higher, 48000))
    )
    assert (first - same).norm() < 0.1 * (first - other).norm()


def test_fd_and_kl_by_ast_are_those_of_its_classes(tmp_path):
    folder = tiny.ast(tmp_path)
    model = transformers.ASTForAudioClassification.from_pretrained(folder).eval()
    extractor = transformers.ASTFeatureExtractor.from_pretrained(folder)
    pooled = []
    model.classifier.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    sides, logits = (samples(6), samples(6, seed=1)), []
    with torch.inference_mode():
        for side in sides:
            heard = [extractor(w.numpy(), sampling_rate=16000, return_tensors="pt") for w in side.windows]
            logits.append(torch.cat([model(**h).logits for h in heard]))
    expected = metrics.frechet_distance(torch.cat(pooled[:6]), torch.cat(pooled[6:]))
    assert SCORES["fd@ast"].compute(*sides, tmp_path) == pytest.approx(expected, rel=1e-3, abs=1e-6)
    given, wanted = logits[0].double().softmax(1) + 1e-6, logits[1].double().softmax(1)
    expected = float((wanted * (wanted.log() - given.log())).sum(1).mean())
    assert SCORES["kl@ast"].compute(*sides, tmp_path) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("seconds, message", [(0.5, "1 to 11 s, got 0.50 s"), (12, "1 to 11 s, got 12.00 s")])
def test_a_whole_canvas_in_place_of_windows_is_refused(tmp_path, seconds, message):
    tiny.clap(tmp_path)
    with pytest.raises(ValueError, match=f"clap: expected windows of {message}"):
        SCORES["clap"].compute(samples(2, seconds=seconds), None, tmp_path)


@pytest.mark.parametrize("name", ["fd", "fad", "kl", "clap", "intra_clap", "fd@ast", "kl@ast"])
def test_pictures_are_refused(tmp_path, name):
    tiny.clap(tmp_path), tiny.ast(tmp_path)
    written(tmp_path, "panns", tiny.panns()), written(tmp_path, "vggish", tiny.vggish())
    pictures = Samples(torch.zeros(2, 3, 8, 8), (0, 0), PROMPTS[:2])
    with pytest.raises(ValueError, match=f"{name}: expected windows of audio, got image"):
        SCORES[name].compute(pictures, pictures, tmp_path)


def test_one_network_serves_the_scores_that_share_it(tmp_path, monkeypatch):
    written(tmp_path, "panns", tiny.panns())
    calls, windows = [], panns.Panns.windows
    monkeypatch.setattr(panns.Panns, "windows", lambda *args: calls.append(len(args[1])) or windows(*args))
    given, real = samples(), samples(seed=1)
    for name in ("fd", "kl"):
        SCORES[name].compute(given, real, tmp_path)
    assert calls == [4, 4]


def test_safetensors_will_do_and_vggish_ignores_its_postprocessor(tmp_path):
    weights = tiny.vggish()
    expected = SCORES["fad"].compute(samples(), samples(seed=1), written(tmp_path / "a", "vggish", weights))
    folder = tmp_path / "b" / "evaluation" / "vggish"
    folder.mkdir(parents=True)
    save_file(weights | {"pproc.pca_means": torch.zeros(6, 1)}, folder / "x.safetensors")
    assert SCORES["fad"].compute(samples(), samples(seed=1), tmp_path / "b") == expected
    assert vggish.VGGISH.path(tmp_path / "b").name == "x.safetensors"
