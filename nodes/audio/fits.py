"""Whether a component's configuration fits its weights, before anything is built from it.

A number in a file of a kilobyte can ask for all of a machine's memory, or for days of building.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import safe_open

from ...safa_core.loading import LOCAL
from .weights import read_tensors

COUNTING = ("layer", "depth", "blocks")  # in the names of fields that count modules
FEW = 64  # lists up to so long, and counts up to so high, are no burden
BUFFERS = 2**20  # numbers in positions and masks, which no file needs to hold


def tensor_sizes(files: list[Path]) -> list[int]:
    """How many numbers each tensor of some files of weights has, by their headers."""
    sizes = []
    for file in files:
        if file.suffix != ".safetensors":
            sizes += [tensor.numel() for tensor in read_tensors(file, map_location="meta").values()]
            continue
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():
                sizes.append(torch.Size(opened.get_slice(name).get_shape()).numel())
    return sizes


def check_counts(config: dict[str, Any], tensors: int, place: str) -> None:
    """Refuse a configuration that asks for more modules than there are tensors (ValueError)."""
    for field, count in _counts(config):
        if count > max(tensors, FEW):
            raise ValueError(
                f"{place} asks for {field} = {count:.6g}, but its weights are {tensors} tensors; download it again."
            )


def _counts(config: dict[str, Any]) -> Iterator[tuple[str, int | float]]:
    """(field, how many modules it asks for): numbers that count, and lists by their lengths, wherever they are."""
    for field, value in config.items():
        values = value if isinstance(value, list) else [value]
        if isinstance(value, list):
            yield f"{field} with a length", len(value)
        for one in values:
            if isinstance(one, dict):
                yield from _counts(one)
            elif isinstance(one, int | float) and any(part in field for part in COUNTING):
                yield field, one


def without_memory(kind: type[Any], part: Path, config: dict[str, Any]) -> torch.nn.Module:
    """What a library's class makes of the configuration in a component's folder, on the meta device."""
    with torch.device("meta"):
        if issubclass(kind, ModelMixin):
            return kind.from_config({name: value for name, value in config.items() if not name.startswith("_")})
        return kind(kind.config_class.from_pretrained(part, **LOCAL))


def check_parameters(described: torch.nn.Module, held: int, place: str) -> None:
    """Refuse a module of more numbers than the `held` ones of its files (ValueError)."""
    wanted = sum(parameter.numel() for parameter in described.parameters())
    beside = sum(buffer.numel() for buffer in described.buffers())
    if wanted > held or beside > held + BUFFERS:
        raise ValueError(
            f"{place} lacks {max(wanted, beside) - held} of the weights that a {type(described).__name__} of its "
            "config.json needs; download the model again."
        )
