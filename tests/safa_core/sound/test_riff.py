import io
import struct
import wave

import pytest

from safa_pack.safa_core.sound import riff
from safa_pack.safa_core.sound.riff import append_chunks, chunk, info_chunk, smpl_chunk

pytestmark = pytest.mark.core


def parse(data):
    """Chunks of a RIFF file by name, by nothing but the specification; refuses odd places and wrong sizes."""
    name, size, kind = struct.unpack_from("<4sI4s", data)
    assert (name, size, kind) == (b"RIFF", len(data) - 8, b"WAVE")
    place, chunks = 12, {}
    while place < len(data):
        assert place % 2 == 0
        name, size = struct.unpack_from("<4sI", data, place)
        chunks[name] = data[place + 8 : place + 8 + size]
        assert len(chunks[name]) == size
        place += 8 + size + size % 2
    assert place == len(data)
    return chunks


def wav(samples):
    """A mono 8-bit WAV file of so many bytes of sound."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(8000)
        out.writeframes(bytes(range(samples)))
    return file


@pytest.mark.parametrize("samples", [6, 7])
@pytest.mark.parametrize("text", ["even", "odd", "", "Grün ♪"])
def test_appended_chunks_are_found_and_the_samples_are_still_read(samples, text):
    file = wav(samples)
    if samples % 2:
        file.truncate(44 + samples)  # a writer that forgot the padding of its last chunk
    append_chunks(file, smpl_chunk(8000, samples), info_chunk(ISFT="SaFa", ICMT=text))
    chunks = parse(file.getvalue())
    assert list(chunks) == [b"fmt ", b"data", b"smpl", b"LIST"]
    assert chunks[b"LIST"].startswith(b"INFOISFT") and text.encode() + b"\0" in chunks[b"LIST"]
    file.seek(0)
    with wave.open(file) as sound:
        assert sound.readframes(100) == bytes(range(samples))


def test_a_loop_over_the_whole_clip():
    data = smpl_chunk(48000, 1000, note=69)
    assert data[:8] == b"smpl" + struct.pack("<I", 60)
    maker, product, period, note, cents, smpte, offset, loops, extra = struct.unpack_from("<9I", data, 8)
    assert (period, note, loops) == (20833, 69, 1)
    assert (maker, product, cents, smpte, offset, extra) == (0,) * 6
    identity, kind, first, last, fraction, count = struct.unpack_from("<6I", data, 44)
    assert (kind, first, last, count) == (0, 0, 999, 0)
    assert (identity, fraction) == (0, 0)


def test_padding_is_not_counted():
    assert chunk(b"abcd", b"xyz") == b"abcd\x03\x00\x00\x00xyz\x00"


def test_a_file_beyond_what_riff_can_count_is_refused_and_left_alone(monkeypatch):
    monkeypatch.setattr(riff, "LARGEST", 100)
    file = wav(6)
    before = file.getvalue()
    with pytest.raises(ValueError, match="below 4 GiB, got 118 bytes"):
        append_chunks(file, smpl_chunk(8000, 6))
    assert file.getvalue() == before
