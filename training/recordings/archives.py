"""Files inside Debian packages, and inside the zip and C4Group archives that some of these hold."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

INSIDE = "!"  # between an archive's path and the path in it
_HEADER, _ENTRY = 204, 316  # bytes of a C4Group's header and of each of its entries


def package_files(package: Path, paths: set[str]) -> Iterator[tuple[str, bytes]]:
    """(path, content) of those files of a .deb package, in its own order; a path may be "archive!path in it".

    Raises ValueError for what is missing.
    """
    missing = set(paths)
    with package.open("rb") as file, tarfile.open(fileobj=_data(file), mode="r|xz") as tar:
        for member in tar:
            path = member.name.removeprefix("./")
            wanted = {p for p in missing if p.split(INSIDE)[0] == path}
            if not wanted or not member.isfile():
                continue
            content = tar.extractfile(member).read()
            for one in sorted(wanted):
                yield one, content if one == path else _inner(path, content, one.split(INSIDE)[1])
            missing -= wanted
            if not missing:
                return
    raise ValueError(f"{package.name} has no file {sorted(missing)[0]}.")


def _data(file: BinaryIO) -> BinaryIO:
    """The member data.tar.xz of an ar archive, as a file that begins with it."""
    if file.read(8) != b"!<arch>\n":
        raise ValueError("This is no Debian package.")
    while header := file.read(60):
        name, size = header[:16].decode().strip(" /"), int(header[48:58])
        if name == "data.tar.xz":
            return file
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("The package has no data.tar.xz.")


def _inner(archive: str, content: bytes, path: str) -> bytes:
    if archive.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as pack:
            return pack.read(path)
    return _group_file(gzip.decompress(b"\x1f\x8b" + content[2:]), path)


def _group_file(group: bytes, path: str) -> bytes:
    """A file of an unpacked C4Group, whose entries are groups of their own where the path has more than one part."""
    head = bytearray(byte ^ 237 for byte in group[:_HEADER])
    for i in range(0, _HEADER - 2, 3):
        head[i], head[i + 2] = head[i + 2], head[i]
    count = struct.unpack_from("<i", head, 36)[0]
    name, _, rest = path.partition("/")
    for number in range(count):
        start = _HEADER + number * _ENTRY
        entry = group[start : start + _ENTRY]
        if entry[: entry.index(0)].decode("latin-1") == name:
            size, _, offset = struct.unpack_from("<iii", entry, 268)
            begin = _HEADER + count * _ENTRY + offset
            content = group[begin : begin + size]
            return _group_file(content, rest) if rest else content
    raise KeyError(path)
