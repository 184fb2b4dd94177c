"""Which kind of model a folder holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

PICTURES = {"StableDiffusionPipeline": "unet", "StableDiffusion3Pipeline": "transformer"}
INDEX, TANGO = "model_index.json", "main_config.json"
SAMPLED = 2**20  # bytes from either end of a file of weights that its fingerprint is made of


def kind_of(folder: Path) -> str:
    """ "audio" or "image", from the folder's own description; ValueError for what is neither."""
    if not folder.is_dir():
        raise ValueError(f"Expected a model folder, got {folder.resolve()}, which does not exist.")
    if (folder / TANGO).is_file():
        return "audio"
    if not (folder / INDEX).is_file():
        raise ValueError(f"Expected a model folder in diffusers' layout, got {folder} without {INDEX}.")
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"Expected JSON in {folder / INDEX}, got something else: download it again.") from None
    named = index.get("_class_name")
    if named not in PICTURES and "vocoder" not in index:
        known = "AudioLDM, AudioLDM2, MusicLDM, Tango, a folder such as models/safa-pocket"
        raise ValueError(f"Expected a model of {', '.join(PICTURES)}, {known}, got {named} in {folder}.")
    return "image" if named in PICTURES else "audio"


def fingerprint(folder: Path) -> str:
    """Changes with the folder's configurations and with the size, the head or the tail of its weights."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors", ".bin") and p.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}".encode())
        with path.open("rb") as opened:
            digest.update(opened.read(SAMPLED))
            opened.seek(max(0, size - SAMPLED))
            digest.update(opened.read(SAMPLED))
    return digest.hexdigest()[:16]
