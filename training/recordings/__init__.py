"""Recordings from Debian's packages: what the pocket model has heard of the world, with licence and credit per file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

from .archives import package_files
from .fetch import Package, fetched

HERE = Path(__file__).resolve().parent
USES = ("training", "held-out")


@dataclass(frozen=True)
class Recording:
    """One file of a package. use: "training", or "held-out" for measuring; path: "archive!path in it" where packed."""

    kind: str
    use: str
    package: str
    path: str
    licence: str
    credit: str

    @property
    def name(self) -> str:
        """Its file in the folder of recordings: no two packages share one."""
        stem = self.path.replace("!", "/").rsplit(".", 1)[0]
        return f"{self.kind}/{self.package}-{'-'.join(stem.split('/')[-3:])}.flac"


def manifest() -> list[Recording]:
    """All of them, as manifest.tsv beside this file lists them."""
    return [Recording(**row) for row in _rows("manifest.tsv")]


def packages() -> dict[str, Package]:
    """The packages by name, each with its version, size and sha256."""
    return {row["package"]: Package(**row) for row in _rows("packages.tsv")}


def _rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def make_recordings(folder: Path, sample_rate: int, mirror: str) -> list[Recording]:
    """Write every recording that `folder` lacks, mono at `sample_rate`, out of packages fetched from `mirror`.

    A package is fetched only where one of its files is missing, checked by its sha256, and removed once unpacked.
    """
    recordings = manifest()
    missing: dict[str, list[Recording]] = {}
    for recording in recordings:
        if not (folder / recording.name).is_file():
            missing.setdefault(recording.package, []).append(recording)
    known = packages()
    for name, lacking in missing.items():
        package = fetched(known[name], folder, mirror)
        _unpack(package, lacking, folder, sample_rate)
        package.unlink()
    return recordings


def _unpack(package: Path, recordings: Iterable[Recording], folder: Path, sample_rate: int) -> None:
    by_path = {recording.path: recording for recording in recordings}
    for path, content in package_files(package, set(by_path)):
        file = folder / by_path[path].name
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        soundfile.write(part, _mono(content, sample_rate), sample_rate, format="FLAC", subtype="PCM_16")
        os.replace(part, file)


def _mono(content: bytes, sample_rate: int) -> np.ndarray:
    """A sound file's content as float32 at the rate; the mean of its channels, or the first where they cancel."""
    wave, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    mean = wave.mean(1)
    if np.square(mean).mean() < 0.1 * np.square(wave).mean():
        mean = wave[:, 0]
    common = np.gcd(rate, sample_rate)
    made = signal.resample_poly(mean, sample_rate // common, rate // common)
    return (made / max(1.0, np.abs(made).max())).astype(np.float32)


def read_recording(folder: Path, recording: Recording) -> np.ndarray:
    """Its samples, float32."""
    return soundfile.read(folder / recording.name, dtype="float32")[0]


def credits() -> str:
    """CREDITS.md: who recorded what, and under which licence, for the folder of a model that was trained on them."""
    versions = packages()
    lines = [
        "# Credits",
        "",
        "The weights were trained on these recordings, cut, filtered and mixed. Files are named as their Debian",
        'package has them ("archive!path in it"); each package says more in its `copyright` file. Recordings that are',
        "held out for measuring have taught the weights nothing.",
    ]
    for licence, credit, package in sorted({(r.licence, r.credit, r.package) for r in manifest()}):
        lines += ["", f"## {credit}: {licence}, {package} {versions[package].version}", ""]
        for recording in manifest():
            if (recording.licence, recording.credit, recording.package) == (licence, credit, package):
                held = ", held out" if recording.use == "held-out" else ""
                lines.append(f"- {recording.kind}{held}: `{recording.path}`")
    return "\n".join(lines) + "\n"
