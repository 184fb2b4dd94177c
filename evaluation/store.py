"""One folder per run: results.jsonl, a line per finished piece of work, and a .safetensors file beside each line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


class Run:
    """Results of one protocol that survive an interruption.

    settings: what the results depend on; a folder made with others is refused (ValueError).
    """

    def __init__(self, folder: Path, settings: dict):
        self.folder, self.results = folder, folder / "results.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        path, settings = folder / "settings.json", json.loads(json.dumps(settings))
        if path.is_file():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            other = [key for key in settings.keys() | earlier.keys() if settings.get(key) != earlier.get(key)]
            if other:
                raise ValueError(
                    f"Expected the settings that {folder} was made with, but {', '.join(sorted(other))} differ: "
                    "choose another --run or delete the folder."
                )
        path.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        self._drop_unfinished_line()
        self.lines = {line["key"]: line for line in map(json.loads, self._text().splitlines())}

    def __contains__(self, key: str) -> bool:
        return key in self.lines

    def save(self, key: str, line: dict, tensors: dict[str, torch.Tensor]) -> None:
        """Tensors first, the line last: what has a line is complete."""
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, self._file(key))
        self.lines[key] = {"key": key, **line}
        with self.results.open("a", encoding="utf-8") as results:
            results.write(json.dumps(self.lines[key]) + "\n")
            results.flush()
            os.fsync(results.fileno())

    def tensors(self, key: str) -> dict[str, torch.Tensor]:
        """What was saved under this key."""
        return load_file(self._file(key))

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _text(self) -> str:
        return self.results.read_text(encoding="utf-8") if self.results.is_file() else ""

    def _drop_unfinished_line(self) -> None:
        text = self._text()
        if text and not text.endswith("\n"):  # the power went while it was written
            self.results.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
