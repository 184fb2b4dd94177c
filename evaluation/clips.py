"""Real clips to compare with, and files of prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from .scores.sound import resampled


@dataclass(frozen=True)
class Real:
    """Sound files, one for each prompt, in order."""

    files: tuple[Path, ...]

    def window(self, number: int, rate: int, seconds: float) -> torch.Tensor:
        """The first `seconds` of a clip at `rate` Hz, its channels averaged, filled up with silence: [1, samples].

        ValueError for a file that is no sound.
        """
        import soundfile

        path = self.files[number]
        try:
            wave, own = soundfile.read(path, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise ValueError(f"Expected sound in {path}, got what cannot be read ({error}).") from error
        sound = resampled(torch.from_numpy(wave).mean(1), own, rate)
        length = round(seconds * rate)
        return torch.nn.functional.pad(sound, (0, max(0, length - len(sound))))[None, :length]


def read_prompts(path: Path) -> tuple[list[str], list[str | None]]:
    """Prompts of a text file, one a line, and the files named before a tab (None where none is); ValueError."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"Expected a text file of prompts, got {path} ({getattr(error, 'strerror', error)})."
        ) from None
    parts = [line.partition("\t") for line in lines if line]
    if not parts:
        raise ValueError(f"Expected one prompt a line in {path}, got none.")
    prompts = [(after or before).strip() for before, _, after in parts]
    return prompts, [before.strip() if after else None for before, _, after in parts]


def real_clips(folder: Path, named: list[str | None]) -> Real:
    """The files of a folder that a file of prompts names; ValueError where one is not there."""
    if not folder.is_dir():
        raise ValueError(f"Expected a folder of real clips, got {folder}, which does not exist.")
    if None in named:
        raise ValueError("Expected lines `file.wav<tab>caption` in --prompts, so that every caption has its real clip.")
    missing = [name for name in named if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"Expected {missing[0]} in {folder}, which has none ({len(missing)} files are missing).")
    return Real(tuple(folder / name for name in named))
