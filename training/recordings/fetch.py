"""A package from a Debian mirror, by name, version and sha256."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20


@dataclass(frozen=True)
class Package:
    """package: its name; path: of the file on a mirror."""

    package: str
    version: str
    bytes: str
    sha256: str
    path: str


def fetched(package: Package, folder: Path, mirror: str) -> Path:
    """The package's file in `folder`, fetched where it is not there yet.

    Nothing is left under its name before its sha256 is right. Raises ValueError, in one sentence, where that fails.
    """
    file = folder / package.path.rsplit("/", 1)[1]
    if file.is_file() and _digest(file) == package.sha256:
        return file
    folder.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    print(f"fetching {package.package} {package.version}, {int(package.bytes) / 1e6:.0f} MB", flush=True)
    try:
        _download(f"{mirror.rstrip('/')}/{urllib.parse.quote(package.path)}", part)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ValueError(
            f"{package.package} {package.version} could not be fetched from {mirror} ({error}): name a mirror of "
            f"Debian 12 with --mirror, or put the package's file into {folder}."
        ) from error
    if _digest(part) != package.sha256:
        part.unlink()
        raise ValueError(f"{mirror} gave a {package.package} {package.version} that has not that package's sha256.")
    os.replace(part, file)
    return file


def _download(address: str, file: Path) -> None:
    with urllib.request.urlopen(address, timeout=60) as answer, file.open("wb") as out:
        while block := answer.read(BLOCK):
            out.write(block)


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
