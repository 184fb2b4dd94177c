"""The tensors of a TensorFlow Lite file, read by the file's published layout (schema.fbs), without that library."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

KINDS = {0: "<f4", 2: "<i4", 4: "<i8", 9: "<i1"}  # TensorType of schema.fbs
TENSORS, BUFFERS, SUBGRAPHS = 0, 4, 2  # field numbers of SubGraph and of Model
SHAPE, KIND, BUFFER, NAME, QUANTIZATION = 0, 1, 2, 3, 4  # of Tensor
SCALE, ZERO_POINT = 2, 3  # of QuantizationParameters


@dataclass(frozen=True)
class Tensor:
    """One tensor of the graph: its name, its shape, its constant or None, and value = scale * (integer - zero)."""

    name: str
    shape: tuple[int, ...]
    value: np.ndarray | None
    scale: np.ndarray
    zero: np.ndarray


class _Table:
    """A FlatBuffers table: a field lies where the table's own list of offsets says, or is absent."""

    def __init__(self, data: bytes, place: int):
        self.data, self.place = data, place
        self.fields = place - struct.unpack_from("<i", data, place)[0]

    def field(self, number: int) -> int | None:
        """Where a field lies."""
        size = struct.unpack_from("<H", self.data, self.fields)[0]
        if 4 + 2 * number >= size:
            return None
        offset = struct.unpack_from("<H", self.data, self.fields + 4 + 2 * number)[0]
        return self.place + offset if offset else None

    def table(self, number: int) -> _Table | None:
        place = self.field(number)
        return None if place is None else _Table(self.data, _follow(self.data, place))

    def tables(self, number: int) -> Iterator[_Table]:
        first, count = self._vector(number)
        for i in range(count):
            yield _Table(self.data, _follow(self.data, first + 4 * i))

    def array(self, number: int, kind: str) -> np.ndarray:
        first, count = self._vector(number)
        return np.frombuffer(self.data, kind, count, first)

    def number(self, number: int, kind: str) -> int:
        place = self.field(number)
        return 0 if place is None else struct.unpack_from(kind, self.data, place)[0]

    def _vector(self, number: int) -> tuple[int, int]:
        """Where the items begin, and how many there are."""
        place = self.field(number)
        if place is None:
            return 0, 0
        begin = _follow(self.data, place)
        return begin + 4, struct.unpack_from("<I", self.data, begin)[0]


def _follow(data: bytes, place: int) -> int:
    return place + struct.unpack_from("<I", data, place)[0]


def tensors(data: bytes) -> list[Tensor]:
    """All tensors of the file's first graph, by their numbers; ValueError for another kind of file."""
    if data[4:8] != b"TFL3":
        raise ValueError("Expected a TensorFlow Lite file, got another kind of file.")
    try:
        model = _Table(data, _follow(data, 0))
        buffers = [buffer.array(0, "<u1") for buffer in model.tables(BUFFERS)]
        graph = next(model.tables(SUBGRAPHS))
        return [_tensor(table, buffers) for table in graph.tables(TENSORS)]
    except (struct.error, IndexError, StopIteration) as error:
        raise ValueError("Expected a whole TensorFlow Lite file, got one that is cut off.") from error


def _tensor(table: _Table, buffers: list[np.ndarray]) -> Tensor:
    shape = tuple(table.array(SHAPE, "<i4").tolist())
    content = buffers[table.number(BUFFER, "<I")]
    value = None
    if len(content):
        value = content.view(KINDS[table.number(KIND, "<b")]).reshape(shape)
    steps = table.table(QUANTIZATION)
    scale = np.empty(0, "<f4") if steps is None else steps.array(SCALE, "<f4")
    zero = np.empty(0, "<i8") if steps is None else steps.array(ZERO_POINT, "<i8")
    return Tensor(table.array(NAME, "<u1").tobytes().decode(), shape, value, scale, zero)
