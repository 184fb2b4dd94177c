"""Recordings: out of a mirror's packages by name and hash, whole or not at all, with everybody's credit."""

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile

from safa_pack.training import recordings
from safa_pack.training.clips import read_bank, training_clip
from safa_pack.training.kinds import NAMES
from safa_pack.training.recordings import Recording, credits, make_recordings, manifest, packages
from safa_pack.training.recordings.fetch import Package

pytestmark = pytest.mark.tools
RATE = 24000


def sound(hz, seconds=1.0, rate=48000, form="OGG"):
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    file = io.BytesIO()
    soundfile.write(file, np.stack([wave, wave], 1), rate, format=form)
    return file.getvalue()


def group(files):
    """A C4Group before compression: scrambled header, entries, contents."""
    head = bytearray(b"RedWolf Design GrpFolder".ljust(28, b"\0") + struct.pack("<iii", 1, 2, len(files)))
    head = head.ljust(204, b"\0")
    for i in range(0, 202, 3):
        head[i], head[i + 2] = head[i + 2], head[i]
    entries, contents = b"", b""
    for name, content in files.items():
        fields = struct.pack("<iiiiii", 0, 0, len(content), 0, len(contents), 0)
        entries += name.encode().ljust(260, b"\0") + fields.ljust(56, b"\0")
        contents += content
    return bytes(byte ^ 237 for byte in head) + entries + contents


def package(files):
    """A Debian package with those files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(f"./{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    made = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("data.tar.xz", data.getvalue())):
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        made += b"\n" * (len(content) % 2)
    return made


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror with one package that holds a plain file, one in a zip and one in a group within a group."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as pack:
        pack.writestr("audio/birds.wav", sound(3000, form="WAV"))
    packed = gzip.compress(group({"Weather.ocg": group({"Wind.ogg": sound(200)})}))
    content = package(
        {"a/rain.ogg": sound(1000), "a/public.zip": zipped.getvalue(), "a/S.ocg": b"\x1e\x8c" + packed[2:]}
    )
    file = tmp_path / "mirror" / "pool" / "noises_1.deb"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    paths = {"rain": "a/rain.ogg", "birds": "a/public.zip!audio/birds.wav", "wind": "a/S.ocg!Weather.ocg/Wind.ogg"}
    rows = [Recording(kind, "training", "noises", path, "CC0-1.0", "Somebody") for kind, path in paths.items()]
    known = Package("noises", "1", str(len(content)), hashlib.sha256(content).hexdigest(), "pool/noises_1.deb")
    monkeypatch.setattr(recordings, "manifest", lambda: rows)
    monkeypatch.setattr(recordings, "packages", lambda: {"noises": known})
    monkeypatch.setattr("safa_pack.training.clips.manifest", lambda: rows)
    return file.parent.parent.as_uri()


def test_every_file_is_unpacked_once_and_heard_as_it_was(mirror, tmp_path):
    folder = tmp_path / "recordings"
    for recording, hz in zip(make_recordings(folder, RATE, mirror), (1000, 3000, 200), strict=True):
        wave, rate = soundfile.read(folder / recording.name)
        assert rate == RATE and wave.shape == (RATE,)
        assert np.abs(np.fft.rfft(wave)).argmax() == pytest.approx(hz, abs=1)
    assert not list(folder.rglob("*.part")) and not list(folder.rglob("*.deb"))
    assert len(make_recordings(folder, RATE, "file:///nowhere")) == 3  # nothing is fetched again


def test_a_clip_of_recordings_is_the_same_whenever_it_is_made(mirror, tmp_path):
    make_recordings(tmp_path / "r", RATE, mirror)
    bank = read_bank(tmp_path / "r")
    made = [training_clip(number, 2.0, bank) for number in range(2 * len(NAMES))]
    again = training_clip(NAMES.index("rain"), 2.0, bank)
    assert np.array_equal(again.wave, made[NAMES.index("rain")].wave)
    assert any("birds/" in file for clip in made for file in clip.recorded)
    for clip in made:
        assert np.isfinite(clip.wave).all() and 0.01 < np.abs(clip.wave).max() <= 0.9


def test_no_mirror_and_a_wrong_hash_leave_one_sentence_and_no_file(mirror, tmp_path, monkeypatch):
    folder = tmp_path / "recordings"
    with pytest.raises(ValueError, match="could not be fetched from file:///nowhere .*--mirror"):
        make_recordings(folder, RATE, "file:///nowhere")
    good = recordings.packages()["noises"]
    other = Package(good.package, good.version, good.bytes, "0" * 64, good.path)
    monkeypatch.setattr(recordings, "packages", lambda: {"noises": other})
    with pytest.raises(ValueError, match="has not that package's sha256"):
        make_recordings(folder, RATE, mirror)
    assert not [file for file in folder.rglob("*") if file.is_file()]


def test_every_recording_may_be_passed_on_has_credit_and_a_file_of_its_own():
    rows = manifest()
    assert {row.licence for row in rows} <= {"CC0-1.0", "CC-BY-3.0", "CC-BY-SA-3.0"}
    assert {row.kind for row in rows} <= set(NAMES) and {row.package for row in rows} == set(packages())
    assert len({row.name for row in rows}) == len(rows)
    told = credits()
    for row in rows:
        assert row.credit in told and row.path in told
    held = [row.kind for row in rows if row.use == "held-out"]
    assert sorted(held) == sorted({row.kind for row in rows if row.use == "training"})  # one of each kind
