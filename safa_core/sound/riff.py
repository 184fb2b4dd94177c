"""RIFF chunks of a WAV file: loop points and text beside the samples.

Layout after Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0 (1991), chapters 2 and 3.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

LARGEST = 2**32 - 1  # bytes that the 32-bit sizes of RIFF can count
MIDDLE_C = 60


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk: name of four letters, size, data, padded to even length (the size does not count the padding)."""
    return struct.pack("<4sI", name, len(data)) + data + bytes(len(data) % 2)


def smpl_chunk(rate: int, samples: int, note: int = MIDDLE_C) -> bytes:
    """One endless forward loop over a whole clip of `samples` samples per channel at `rate` (in Hz).

    note: the MIDI note at which a sampler plays the clip at its own pitch.
    """
    period = round(1e9 / rate)  # in nanoseconds
    sampler = struct.pack("<9I", 0, 0, period, note, 0, 0, 0, 1, 0)  # 1 loop, no manufacturer's data
    loop = struct.pack("<6I", 0, 0, 0, samples - 1, 0, 0)  # forward, first and last sample played, endless
    return chunk(b"smpl", sampler + loop)


def info_chunk(**texts: str) -> bytes:
    """A LIST of kind INFO: texts by their four-letter names (ICMT comment, ISFT software, ...), in UTF-8."""
    entries = [chunk(name.encode("ascii"), text.encode() + b"\0") for name, text in texts.items()]
    return chunk(b"LIST", b"INFO" + b"".join(entries))


def append_chunks(file: BinaryIO, *chunks: bytes) -> None:
    """Append chunks to a WAV file, open for reading and writing, and set its RIFF size."""
    end = file.seek(0, 2)
    tail = bytes(end % 2) + b"".join(chunks)
    if end + len(tail) - 8 > LARGEST:
        raise ValueError(f"Expected a WAV file below 4 GiB, got {end + len(tail)} bytes.")
    file.write(tail)
    file.seek(4)
    file.write(struct.pack("<I", end + len(tail) - 8))
