"""Folders that hold audio models: which there are, and whether their files are whole and harmless."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

import folder_paths

WHO = "SaFa Audio Model Loader"
FOLDERS = ("audio_models", "diffusers")
DEPTH = 3  # models/audio_models/<organisation>/<model> is the deepest layout people keep
INDEX, TANGO = "model_index.json", "main_config.json"
UNETS = ("UNet2DConditionModel", "AudioLDM2UNet2DConditionModel")
TEXTS = ("ClapTextModelWithProjection", "ClapModel", "T5EncoderModel")

PACK_MODELS = os.path.join(str(Path(__file__).resolve().parents[2]), "models")

# behind what the user named in extra_model_paths.yaml; the pack's own last
folder_paths.add_model_folder_path(FOLDERS[0], os.path.join(folder_paths.models_dir, FOLDERS[0]))
folder_paths.add_model_folder_path(FOLDERS[0], PACK_MODELS)


def audio_models() -> dict[str, Path]:
    """Name -> folder of every audio model below ComfyUI's model folders; names are relative, with forward slashes.

    The pack's own come last, so that the first is one of the user's where there is any.
    """
    found = {}
    for kind in FOLDERS:
        for root in folder_paths.get_folder_paths(kind):
            for folder in _model_folders(Path(root), DEPTH):
                found.setdefault(folder.relative_to(root).as_posix(), folder)
    return dict(sorted(found.items(), key=lambda item: (Path(PACK_MODELS) in item[1].parents, item[0])))


def _model_folders(folder: Path, depth: int):
    for child in sorted(p for p in folder.glob("*") if p.is_dir() and not p.name.startswith(".")):
        if is_audio_model(child):
            yield child
        elif depth > 1:
            yield from _model_folders(child, depth - 1)


def is_audio_model(folder: Path) -> bool:
    """Whether a folder's own description names an audio family (not whether everything is there)."""
    if (folder / TANGO).is_file():
        return "unet_model_config_path" in _described(folder / TANGO)
    parts = _described(folder / INDEX)
    return "vae" in parts and class_of(parts, "unet") in UNETS and class_of(parts, "text_encoder") in TEXTS


def _described(file: Path) -> dict:
    try:
        return read_json(file)
    except ValueError:
        return {}


def class_of(index: dict, name: str) -> str | None:
    """The class that model_index.json names for a component, None where it names none."""
    entry = index.get(name)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def model_folder(name: str) -> Path:
    """The folder of a listed model; anything else, "../" and absolute paths too, is refused (ValueError)."""
    models = audio_models()
    if name not in models:
        raise ValueError(
            f"{WHO}: there is no audio model {name!r} in models/audio_models or models/diffusers; found "
            f"{', '.join(models) or 'none'}."
        )
    return models[name]


def read_json(file: Path) -> dict:
    """A JSON object from a file (ValueError where it is missing or broken)."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{WHO}: {file.parent.name}/{file.name} is missing; download the model again.") from error
    except ValueError as error:
        raise ValueError(f"{WHO}: {file.parent.name}/{file.name} is not JSON; download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{WHO}: {file.parent.name}/{file.name} is not a JSON object; download it again.")
    return content


def component_folder(folder: Path, name: str) -> Path:
    """The folder of one component, its downloads finished (ValueError)."""
    part = folder / name
    if not part.is_dir():
        raise ValueError(f"{WHO}: {folder.name} has no folder {name!r}; download the whole model.")
    unfinished = [p.name for p in [*part.glob("*.incomplete"), *folder.glob(f".cache/**/{name}/*.incomplete")]]
    if unfinished:
        raise ValueError(f"{WHO}: the download of {folder.name}/{name} is not finished ({unfinished[0]}).")
    return part


def weight_files(part: Path) -> list[Path]:
    """The files with a component's weights, safetensors first, all present and readable (ValueError).

    Shards are those that an index file names.
    """
    for ending in (".safetensors", ".bin"):
        indices = sorted(part.glob(f"*{ending}.index.json"))
        files = sorted(part.glob(f"*{ending}"))
        if indices:
            files = [part / name for name in sorted(set(read_json(indices[0]).get("weight_map", {}).values()))]
        if files:
            for file in files:
                check_weights(file)
            return files
    raise ValueError(f"{WHO}: {part.parent.name}/{part.name} has no .safetensors or .bin file with weights.")


def check_weights(file: Path) -> None:
    """Refuse a missing, cut or harmful file of weights (ValueError)."""
    name = f"{file.parent.name}/{file.name}"
    if not file.is_file():
        raise ValueError(f"{WHO}: {name} is missing; download the whole model.")
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="pt"):
                return
        except SafetensorError as error:
            raise ValueError(f"{WHO}: {name} is cut off or broken ({error}); download it again.") from error
    tensors_of(file, map_location="meta")


def tensors_of(file: Path, map_location="cpu") -> dict[str, torch.Tensor]:
    """The tensors of a .bin file; one that carries code is refused unrun (ValueError)."""
    name = f"{file.parent.name}/{file.name}"
    if not file.is_file():
        raise ValueError(f"{WHO}: {name} is missing; download the whole model.")
    with file.open("rb") as opened:
        zipped = opened.read(2) == b"PK"
    try:
        tensors = torch.load(file, map_location=map_location, weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if "unsupported" in str(error).lower():
            raise ValueError(f"{WHO}: {name} holds code, not only weights; do not use this file.") from error
        raise ValueError(f"{WHO}: {name} is cut off or broken; download it again.") from error
    except (RuntimeError, EOFError, LookupError, ValueError, OSError) as error:
        raise ValueError(f"{WHO}: {name} is cut off or broken; download it again.") from error
    if not isinstance(tensors, dict):
        raise ValueError(f"{WHO}: {name} holds no named weights but {type(tensors).__name__}.")
    return tensors
