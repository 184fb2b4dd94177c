"""What the scores say of weights and packages that are not there or not usable: one sentence, never a number."""

import importlib.util
import json
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file

from safa_pack.evaluation.scores import SCORES, Samples
from safa_pack.tests.evaluation import tiny_backbones as tiny

pytestmark = pytest.mark.tools
HEARD = Samples(torch.zeros(2, 16000), (0, 0), ("far bells",) * 2, 16000)
SEEN = Samples(torch.zeros(2, 3, 32, 32), (0, 0), ("far bells",) * 2)
PLACES = {
    "fd": "evaluation/panns",
    "fad": "evaluation/vggish",
    "kl": "evaluation/panns",
    "clap": "evaluation/clap",
    "intra_clap": "evaluation/clap",
    "intra_lpips": "perceptual",
    "fid": "evaluation/inception",
    "kid": "evaluation/inception",
    "clip": "evaluation/clip",
    "intra_style": "evaluation/vgg19",
    "fd@ast": "evaluation/ast",
    "fd@clap": "evaluation/clap",
    "kl@ast": "evaluation/ast",
    "fid@clip": "evaluation/clip",
    "kid@clip": "evaluation/clip",
    "intra_lpips@alexnet": "perceptual",
    "intra_style@vgg16": "perceptual",
    "fd@yamnet": "evaluation/yamnet",
    "kl@yamnet": "evaluation/yamnet",
    "recognised@yamnet": "evaluation/yamnet",
    "similarity@yamnet": "evaluation/yamnet",
}
ONE_FILE = {name: place for name, place in PLACES.items() if not place.endswith(("clap", "clip", "ast"))}

PREFIXES = {
    "intra_lpips": "vgg16",
    "intra_lpips@alexnet": "alexnet",
    "intra_style@vgg16": "vgg16",
    "intra_style": "vgg19",
}


def asked(name, folder):
    samples = SEEN if SCORES[name].kind == "image" else HEARD
    return SCORES[name].compute(samples, samples, folder)


def is_one_sentence(text):
    return text.endswith(".") and "\n" not in text and ". " not in text


def test_every_score_of_the_tables_is_there():
    columns = "fd fad kl clap intra_lpips intra_clap fid kid clip intra_style runtime windows".split()
    paper = {name: score for name, score in SCORES.items() if score.kind != "pocket"}
    assert [name for name in paper if "@" not in name] == columns
    assert set(PLACES) | {"runtime", "windows", "jump@seam", "change@seam"} == set(paper)
    for name, score in SCORES.items():
        assert score.name == name
        assert score.kind in ("audio", "image", "any", "pocket")
        if score.kind != "pocket":
            assert score.title.endswith({"lower": "↓", "higher": "↑"}[score.better])


@pytest.mark.parametrize("name", PLACES)
def test_without_weights_a_score_says_what_to_put_where_and_computes_nothing(tmp_path, name):
    sentence = SCORES[name].missing(tmp_path)
    assert sentence.startswith("no weights: put ")
    assert f" into {tmp_path / PLACES[name]}" in sentence
    assert is_one_sentence(sentence.replace(".com", "").replace(".org", ""))
    with pytest.raises(ValueError) as refused:
        asked(name, tmp_path)
    assert str(refused.value) == f"{name}: {sentence}"


@pytest.mark.parametrize("name", ["runtime", "windows", "jump@seam", "change@seam"])
def test_what_needs_no_weights_says_nothing(tmp_path, name):
    assert SCORES[name].missing(tmp_path) is None


def test_a_folder_that_lacks_a_file_is_told_which(tmp_path):
    folder = tiny.clap(tmp_path)
    assert SCORES["clap"].missing(tmp_path) is None
    (folder / "tokenizer.json").unlink()
    assert SCORES["clap"].missing(tmp_path).endswith(f"into {folder} (tokenizer.json).")
    (folder / "model.safetensors").unlink()
    assert SCORES["clap"].missing(tmp_path).endswith(f"into {folder} (model.safetensors, tokenizer.json).")


@pytest.mark.parametrize("name", ["intra_lpips", "intra_lpips@alexnet"])
def test_without_torchmetrics_a_score_says_so(tmp_path, name, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "torchmetrics" else find(n, *a))
    sentence = "torchmetrics is not installed: pip install torchmetrics."
    assert SCORES[name].missing(tmp_path) == sentence
    with pytest.raises(ValueError, match=f"{name}: {sentence}"):
        asked(name, tmp_path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("name", ONE_FILE)
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_told_in_one_sentence(tmp_path, name, ending, content):
    if name.startswith("intra_lpips"):
        pytest.importorskip("torchmetrics")
    folder = tmp_path / ONE_FILE[name]
    folder.mkdir(parents=True)
    prefix = PREFIXES.get(name, "x")
    (folder / f"{prefix}.{ending}").write_bytes(content)
    assert SCORES[name].missing(tmp_path) is None
    with pytest.raises(ValueError, match="does not hold usable weights") as refused:
        asked(name, tmp_path)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith("there again.")


@pytest.mark.parametrize("name", ONE_FILE)
def test_weights_of_another_network_are_refused(tmp_path, name):
    if name.startswith("intra_lpips"):
        pytest.importorskip("torchmetrics")
    folder = tmp_path / ONE_FILE[name]
    folder.mkdir(parents=True)
    prefix = PREFIXES.get(name, "x")
    save_file({"layer.weight": torch.zeros(3, 3)}, folder / f"{prefix}.safetensors")
    with pytest.raises(ValueError, match="does not hold usable weights"):
        asked(name, tmp_path)


@pytest.mark.parametrize("weights, lost", [(tiny.panns, "conv_block4.bn2.bias"), (tiny.vggish, "features.8.bias")])
def test_a_network_is_not_completed_by_chance(tmp_path, weights, lost):
    name = {"panns": "fd", "vggish": "fad"}[weights.__name__]
    folder = tmp_path / ONE_FILE[name]
    folder.mkdir(parents=True)
    save_file({key: value for key, value in weights().items() if key != lost}, folder / "x.safetensors")
    with pytest.raises(ValueError, match=f"{name}: .*does not hold usable weights"):
        asked(name, tmp_path)


@pytest.mark.parametrize("name, build", [("clap", tiny.clap), ("clip", tiny.clip), ("kl@ast", tiny.ast)])
def test_a_transformers_folder_that_lacks_a_weight_is_not_filled_with_random_numbers(tmp_path, name, build):
    file = build(tmp_path) / "model.safetensors"
    weights = load_file(file)
    lost = next(key for key in sorted(weights) if "layernorm" in key.lower() and key.endswith("weight"))
    save_file({key: value for key, value in weights.items() if key != lost}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="does not hold usable weights .*1 weights of .* are missing, such as") as told:
        asked(name, tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name, build", [("clap", tiny.clap), ("clip", tiny.clip), ("fd@ast", tiny.ast)])
@pytest.mark.parametrize("broken", ["config.json", "model.safetensors"])
def test_a_broken_transformers_folder_is_told_in_one_sentence(tmp_path, name, build, broken):
    (build(tmp_path) / broken).write_text("{ cut off")
    with pytest.raises(ValueError, match="does not hold usable weights") as refused:
        asked(name, tmp_path)
    assert "\n" not in str(refused.value)


def test_another_model_of_transformers_is_refused(tmp_path):
    tiny.clip(tmp_path).rename(tmp_path / "evaluation" / "clap")
    with pytest.raises(ValueError, match="expected a ClapModel, got the configuration of a clip model"):
        asked("clap", tmp_path)


def test_code_that_comes_with_a_folder_does_not_run(tmp_path):
    folder = tiny.clap(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match="does not hold usable weights"):
        asked("clap", tmp_path)


@pytest.mark.parametrize("name, build", [("clap", tiny.clap), ("clip", tiny.clip), ("fd@ast", tiny.ast)])
def test_nothing_asks_the_network(tmp_path, name, build, monkeypatch):
    build(tmp_path)

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert isinstance(asked(name, tmp_path), float)
