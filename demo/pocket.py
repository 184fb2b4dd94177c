"""Whether the pocket model's files are whole, told by their names and sizes. Standard library only."""

import json
from pathlib import Path

# the file that makes a component one; config.json for those with weights
DESCRIBED_BY = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer.json"}


def check_model(folder: Path) -> None:
    """Refuse a pocket model that is missing or cut off (ValueError), by its files' names and sizes."""
    restore = f"restore it with `git checkout -- models/{folder.name}`, or clone the repository again."
    if not folder.is_dir():
        raise ValueError(f"The pocket model is missing ({folder}); {restore}")
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        named = [name for name, value in index.items() if isinstance(value, list) and value[0]]
        for name in named:
            check_part(folder / name)
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"The pocket model in {folder} is damaged ({_reason(error)}); {restore}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{Path(error.filename or '').name}: {error.strerror}"
    return str(error).split("\n")[0]


def check_part(part: Path) -> None:
    """One component: its JSON files are whole, and its weights as long as their header says."""
    files = sorted(part.iterdir())
    for file in files:
        if file.suffix == ".json":
            try:
                json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                raise ValueError(f"{part.name}/{file.name} is not JSON") from None
        if file.suffix == ".safetensors" and safetensors_size(file) != file.stat().st_size:
            raise ValueError(f"{part.name}/{file.name} is not whole")
    wanted = DESCRIBED_BY.get(part.name, "config.json")
    if not (part / wanted).is_file():
        raise ValueError(f"{part.name}/{wanted} is missing")
    if wanted == "config.json" and not any(file.suffix == ".safetensors" for file in files):
        raise ValueError(f"{part.name} has no weights")


def safetensors_size(file: Path) -> int:
    """Bytes that a safetensors file has according to its own header; -1 where that is unreadable."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > file.stat().st_size:
            return -1
        try:
            header = json.loads(opened.read(length))
        except ValueError:
            return -1
    return 8 + length + max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
