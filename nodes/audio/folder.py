"""Which audio models there are below ComfyUI's model folders."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import folder_paths

NAME = "SaFa Audio Model Loader"
FOLDERS = ("audio_models", "diffusers")
DEPTH = 3  # models/audio_models/<organisation>/<model> is the deepest layout people keep
LARGEST = 2**24  # bytes of a description; those of published models have some kilobytes, lists of shards a megabyte
INDEX, TANGO = "model_index.json", "main_config.json"
UNETS = ("UNet2DConditionModel", "AudioLDM2UNet2DConditionModel")
TEXTS = ("ClapTextModelWithProjection", "ClapModel", "T5EncoderModel")

PACK_MODELS = os.path.join(str(Path(__file__).resolve().parents[2]), "models")

# after what the user named in extra_model_paths.yaml, and the pack's own last
folder_paths.add_model_folder_path(FOLDERS[0], os.path.join(folder_paths.models_dir, FOLDERS[0]))
folder_paths.add_model_folder_path(FOLDERS[0], PACK_MODELS)


def audio_models() -> dict[str, Path]:
    """Name -> folder of every audio model below ComfyUI's model folders; names are relative, with forward slashes.

    The pack's own come last, so that the first is one of the user's where there is any.
    """
    models: dict[str, Path] = {}
    for kind in FOLDERS:
        for root in folder_paths.get_folder_paths(kind):
            for folder in _model_folders(Path(root), DEPTH):
                models.setdefault(folder.relative_to(root).as_posix(), folder)
    return dict(sorted(models.items(), key=lambda item: (Path(PACK_MODELS) in item[1].parents, item[0])))


def _model_folders(folder: Path, depth: int) -> Iterator[Path]:
    for child in sorted(p for p in folder.glob("*") if p.is_dir() and not p.name.startswith(".")):
        if is_audio_model(child):
            yield child
        elif depth > 1:
            yield from _model_folders(child, depth - 1)


def is_audio_model(folder: Path) -> bool:
    """Whether a folder's own description names an audio family (not whether everything is there)."""
    if (folder / TANGO).is_file():
        return "unet_model_config_path" in _read_description(folder / TANGO)
    index = _read_description(folder / INDEX)
    return "vae" in index and class_of(index, "unet") in UNETS and class_of(index, "text_encoder") in TEXTS


def _read_description(file: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is none."""
    try:
        return read_json(file)
    except ValueError:
        return {}


def class_of(index: Mapping[str, Any], component: str) -> str | None:
    """The class that model_index.json names for a component, None where it names none."""
    entry = index.get(component)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def find_model(name: str) -> Path:
    """The folder of a listed model; anything else, "../" and absolute paths too, is refused (ValueError)."""
    models = audio_models()
    if name not in models:
        raise ValueError(
            f"there is no audio model {name!r} in models/audio_models or models/diffusers; found "
            f"{', '.join(models) or 'none'}."
        )
    return models[name]


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file (ValueError where it is missing, no plain file, too large or broken)."""
    name = f"{file.parent.name}/{file.name}"
    if not file.is_file():  # a pipe or device of that name would be waited for
        raise ValueError(f"{name} is missing; download the model again.")
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{name} is larger than {LARGEST // 2**20} MB, no description of a model.")
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror}).") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON; download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name} is not a JSON object; download it again.")
    return content
