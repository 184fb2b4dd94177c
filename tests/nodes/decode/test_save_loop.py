import json
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import comfy.model_management
import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io

from safa_pack.nodes.decode.save_loop import SaFaSaveLoop

pytestmark = pytest.mark.host

RATE = 16000
WORKFLOW = {"nodes": [{"id": 1, "title": "Grün ♪"}], "links": []}
PROMPT = {"1": {"class_type": "SaFaSaveLoop", "inputs": {"loop": True}}}


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path / "output"


def sound(batch=1, channels=1, samples=1601, peak=0.9, seed=4):
    waveform = torch.rand(batch, channels, samples, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return {"waveform": waveform * peak, "sample_rate": RATE}


def save(audio, loop=True, format="16-bit", repeat=1, prefix="audio/loop", hidden=None):
    """Runs the node as the host does, with hidden inputs; gives its `ui`."""
    values = {io.Hidden.prompt: PROMPT, io.Hidden.extra_pnginfo: {"workflow": WORKFLOW}} if hidden is None else hidden
    node = SaFaSaveLoop.PREPARE_CLASS_CLONE({"hidden_inputs": values})
    return node.execute(audio, prefix, loop, format, repeat).ui


def chunks(path):
    """Chunks of a RIFF file by name; refuses odd places and wrong sizes."""
    data = path.read_bytes()
    assert struct.unpack_from("<4sI4s", data) == (b"RIFF", len(data) - 8, b"WAVE")
    place, found = 12, {}
    while place < len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        found[name] = data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    assert place == len(data)
    return found


def comment(path):
    text = chunks(path)[b"LIST"]
    place = text.index(b"ICMT")
    (size,) = struct.unpack_from("<I", text, place + 4)
    return json.loads(text[place + 8 : place + 8 + size].rstrip(b"\0"))


def test_without_libsndfile_only_saving_is_refused_and_with_what_to_do(tmp_path, output, monkeypatch):
    """soundfile without its library ends its import with OSError."""
    (tmp_path / "soundfile.py").write_text("raise OSError('sndfile library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "soundfile")
    with pytest.raises(ValueError, match="finds no libsndfile .*not found.*apt-get install libsndfile1"):
        save(sound())
    assert not output.exists()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("format", "subtype", "step"), [("16-bit", "PCM_16", 2**-15), ("24-bit", "PCM_24", 2**-23), ("float", "FLOAT", 0)]
)
def test_samples_come_back(output, channels, format, subtype, step):
    audio = sound(channels=channels)
    save(audio, format=format)
    path = output / "audio" / "loop_00001_.wav"
    back, rate = soundfile.read(path, dtype="float64", always_2d=True)
    assert (rate, soundfile.info(path).subtype) == (RATE, subtype)
    difference = back.T - audio["waveform"][0].numpy()
    assert np.abs(difference).max() <= step / 2
    assert abs(difference.mean()) <= step / 20  # no offset


def test_what_the_page_gets_plays_the_saved_file():
    entry = {"filename": "loop_00001_.wav", "subfolder": "audio", "type": "output"}
    shown = save(sound())
    assert shown["audio"] == shown["safa_audio"] == [entry]


@pytest.mark.parametrize("format", ["16-bit", "24-bit", "float"])
@pytest.mark.parametrize("repeat", [1, 3])
def test_loop_points_are_around_all_of_it(output, format, repeat):
    audio = sound(samples=1601)
    save(audio, format=format, repeat=repeat)
    path = output / "audio" / "loop_00001_.wav"
    smpl = chunks(path)[b"smpl"]
    assert struct.unpack_from("<2I", smpl, 8) == (62500, 60)  # ns, middle C
    assert struct.unpack_from("<6I", smpl, 36) == (0, 0, 0, 1601 * repeat - 1, 0, 0)
    back, _ = soundfile.read(path, dtype="float64")
    assert len(back) == 1601 * repeat
    assert (back.reshape(repeat, 1601) == back[:1601]).all()


def test_without_a_loop_there_are_no_loop_points(output):
    save(sound(), loop=False)
    assert b"smpl" not in chunks(output / "audio" / "loop_00001_.wav")


def test_the_sound_of_a_plan_without_a_loop_gets_no_loop_points_and_the_node_says_so(output):
    said = save(sound() | {"loop": False})["text"][0]
    assert b"smpl" not in chunks(output / "audio" / "loop_00001_.wav")
    assert said.endswith("no loop points, because its plan has no loop")


def test_an_unknown_sound_whose_ends_do_not_meet_gets_its_loop_points_and_a_warning(output):
    ramp = {"waveform": torch.linspace(-0.9, 0.9, 3 * RATE)[None, None], "sample_rate": RATE}
    ring = {
        "waveform": torch.sin(torch.arange(3 * RATE) * (2 * torch.pi * 100 / RATE))[None, None],
        "sample_rate": RATE,
    }
    assert "the end does not flow into the start" in save(ramp)["text"][0]
    assert "flow" not in save(ring)["text"][0]
    assert b"smpl" in chunks(output / "audio" / "loop_00001_.wav")


def test_the_workflow_is_in_the_comment(output):
    save(sound())
    path = output / "audio" / "loop_00001_.wav"
    assert comment(path) == {"prompt": PROMPT, "workflow": WORKFLOW}
    with soundfile.SoundFile(path) as file:
        assert json.loads(file.comment) == {"prompt": PROMPT, "workflow": WORKFLOW}


def test_no_workflow_where_the_user_wants_none(output, monkeypatch):
    monkeypatch.setattr(args, "disable_metadata", True)
    save(sound())
    assert b"LIST" not in chunks(output / "audio" / "loop_00001_.wav")


def test_one_file_for_each_clip_and_none_overwritten(output):
    audio = sound(batch=2)
    assert [entry["filename"] for entry in save(audio)["audio"]] == ["loop_00001_.wav", "loop_00002_.wav"]
    assert [entry["filename"] for entry in save(audio)["audio"]] == ["loop_00003_.wav", "loop_00004_.wav"]
    back, _ = soundfile.read(output / "audio" / "loop_00002_.wav")
    assert np.abs(back - audio["waveform"][1, 0].numpy()).max() < 1e-4
    for _ in range(2):
        save(audio, prefix="clip%batch_num%")
    assert sorted(p.name for p in output.glob("*.wav")) == [
        "clip0_00001_.wav",
        "clip0_00002_.wav",
        "clip1_00002_.wav",
        "clip1_00003_.wav",
    ]


def told(monkeypatch):
    texts = []
    monkeypatch.setattr("safa_pack.nodes.decode.save_loop.show_text", texts.append)
    return texts


@pytest.mark.parametrize("format, step", [("16-bit", 2**-15), ("24-bit", 2**-23)])
def test_a_sound_beyond_full_scale_gets_one_gain_and_is_not_clipped(output, monkeypatch, format, step):
    texts = told(monkeypatch)
    audio = sound(samples=1000, peak=0.5)
    audio["waveform"][..., 10] = -1.5
    audio["waveform"][..., 20] = 1.25
    save(audio, format=format, repeat=2)
    assert "0.125 s at 16000 Hz" in texts[-1] and "peak 1.5: one gain of -3.6 dB for the whole sound" in texts[-1]
    back, _ = soundfile.read(output / "audio" / "loop_00001_.wav")
    expected = audio["waveform"][0, 0].double().numpy() * 0.99 / 1.5
    assert np.abs(back[:1000] - expected).max() <= 0.51 * step + 1e-7
    assert audio["waveform"].abs().max() == 1.5  # the socket's own sound is left alone


def test_float_keeps_what_lies_beyond_full_scale(output, monkeypatch):
    texts = told(monkeypatch)
    audio = sound(samples=1000, peak=0.5)
    audio["waveform"][..., 10] = -1.5
    save(audio, format="float")
    assert "gain" not in texts[-1]
    back, _ = soundfile.read(output / "audio" / "loop_00001_.wav")
    assert back[10] == -1.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"waveform": torch.zeros(1, 1, 0)}, "expected sound"),
        ({"waveform": torch.zeros(0, 1, 9)}, "expected sound"),
        ({"waveform": torch.zeros(1, 3, 9)}, "mono or stereo"),
        ({"waveform": torch.zeros(2, 9)}, "mono or stereo"),
        ({"waveform": torch.full((1, 1, 9), torch.nan)}, "NaN or infinity"),
        ({"waveform": torch.full((1, 1, 9), torch.inf)}, "NaN or infinity"),
        ({"sample_rate": 0}, "at 0 Hz"),
    ],
)
def test_bad_audio_is_refused_before_anything_is_written(output, change, words):
    with pytest.raises(ValueError, match=f"Save Loop.*{words}"):
        save(sound() | change)
    assert not output.exists()


def test_no_audio_and_too_much_of_it_are_refused(output):
    with pytest.raises(ValueError, match="got none"):
        save(None)
    hour = {"waveform": torch.zeros(1, 1, 1).expand(1, 2, 3600 * 48000), "sample_rate": 48000}
    with pytest.raises(ValueError, match="4 GiB, but 4 × the clip is 5.1 GiB"):
        save(hour, format="float", repeat=4)
    assert not output.exists()


@pytest.mark.parametrize("prefix", ["../up", "audio/../../up", "/tmp/up", "a\0b"])
def test_a_name_outside_the_output_folder_is_refused_before_anything_runs(output, prefix):
    assert SaFaSaveLoop.validate_inputs(prefix).startswith("expected a `filename_prefix` below ComfyUI's output folder")
    with pytest.raises(
        ValueError, match=r"^Save Loop \(WAV\): expected a `filename_prefix` below"
    ):  # from another node
        save(sound(), prefix=prefix)
    assert not list(output.parent.rglob("*.wav"))


def test_a_name_below_a_file_is_refused_before_anything_runs(output):
    (output / "audio").mkdir(parents=True)
    (output / "audio" / "loop").touch()
    assert "is a file" in SaFaSaveLoop.validate_inputs("audio/loop/drums/one")


@pytest.mark.parametrize("prefix", ["audio/loop", "loop", "", "new/a/../b/%year%/x", None])
def test_a_name_below_the_output_folder_is_taken(output, prefix):
    assert SaFaSaveLoop.validate_inputs(prefix) is True
    if prefix is not None:
        save(sound(samples=8), prefix=prefix)
        assert len(list(output.rglob("*.wav"))) == 1


def test_a_loop_written_a_thousand_times_says_before_how_much_that_is(output, monkeypatch):
    at_hand = []
    monkeypatch.setattr(
        "safa_pack.nodes.decode.save_loop.show_text",
        lambda text: at_hand.append((text, len(list(output.rglob("*.wav"))))),
    )
    save(sound(batch=2, channels=2, samples=160), repeat=1000, format="24-bit")
    assert at_hand[0] == ("writing 1000 × the clip: 10 s, 1.92 MB", 0)
    assert [written for _, written in at_hand] == [0, 2]
    assert (output / "audio" / "loop_00001_.wav").stat().st_size > 960000


def test_more_than_the_disk_holds_is_refused_before_a_byte_is_written(output, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=999))
    with pytest.raises(ValueError, match=r"^Save Loop \(WAV\): 2 MB are to be written, but 0 MB are free in .*audio"):
        save(sound(samples=1000), repeat=1000)
    assert not list(output.rglob("*.wav*"))


def test_an_interruption_leaves_no_file(output):
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        save(sound(), repeat=1000)
    assert list((output / "audio").iterdir()) == []


def test_a_failure_leaves_nothing_half_written(output, monkeypatch):
    def broken(file, *chunks):
        raise OSError("No space left on device")

    monkeypatch.setattr("safa_pack.nodes.decode.save_loop.append_chunks", broken)
    with pytest.raises(OSError, match="No space left"):
        save(sound())
    assert list((output / "audio").iterdir()) == []


def test_saved_through_the_host_loader_it_is_the_same_sound(output):
    from comfy_extras.nodes_audio import load

    audio = sound(channels=2)
    save(audio, format="float", repeat=2)
    waveform, rate = load(str(output / "audio" / "loop_00001_.wav"))
    assert rate == RATE
    assert torch.equal(waveform, audio["waveform"][0].repeat(1, 2))
