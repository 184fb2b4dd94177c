"""What every method asks of a model, and which model a folder holds."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from pathlib import Path

import torch

PICTURES = {"StableDiffusionPipeline": "unet", "StableDiffusion3Pipeline": "transformer"}
INDEX, TANGO = "model_index.json", "main_config.json"
SAMPLED = 2**20  # bytes from either end of a file of weights that its fingerprint is made of


class WindowModel(ABC):
    """A latent diffusion model on windows [N, C, rows, columns], time or width last, as safa_core wants them.

    kind:    "audio" or "image". device: where it computes. batch: windows in one call, guided and unguided counted
             apart. evaluations: of the model on one window so far, counted likewise.
    network: the denoiser. scheduler: DDIM's interface of diffusers.
    long_axis: which dimension of the network's own latents [N, C, ., .] is the long one, counted from 0 behind C.
    reference_axis: what alternates in the Reference-Guided Swap, "frames" or "rows".
    prompts: what the model's own prompts are, where it knows no others.
    """

    kind = "audio"
    reference_axis = "frames"
    long_axis = 1
    prompts: tuple[str, ...] = ()

    def __init__(self, network, scheduler, device: torch.device, batch: int):
        self.network, self.scheduler, self.device, self.batch = network, scheduler, device, batch
        self.evaluations = 0

    @abstractmethod
    def columns(self, length: float, view: float) -> int:
        """Latent columns of a length in seconds or pixels (ValueError where it is no whole number of them).

        view: the protocol's view in the same unit.
        """

    @abstractmethod
    def latent_shape(self, columns: int) -> tuple[int, int, int]:
        """[C, rows, columns] of a latent."""

    @abstractmethod
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, ...]:
        """What the network takes of the prompts, [B, ...] each."""

    @abstractmethod
    def forward(self, latents: torch.Tensor, t: torch.Tensor, *text: torch.Tensor) -> torch.Tensor:
        """The network's output for latents [N, C, rows, columns] and as many prompts."""

    @abstractmethod
    def decode(self, latents: torch.Tensor, loop: bool) -> torch.Tensor:
        """Final latents [B, C, rows, columns] as pictures [B, 3, H, W] in 0 ... 1 or sound [B, samples], on the CPU."""

    @property
    def coarsest(self) -> int:
        """Latent columns per token at the coarsest level of the network."""
        return 2 ** (len(self.network.config.block_out_channels) - 1)

    def guided(self, latents: torch.Tensor, t, text, unguided, scale: float) -> torch.Tensor:
        """The network's output for latents [N, C, rows, columns] under classifier-free guidance.

        text, unguided: as `encode` returns them, of N prompts and of one.
        """
        prompts = [_both(*pair) for pair in zip(text, unguided, strict=True)]
        doubled = torch.cat([latents, latents])
        self.evaluations += len(doubled)
        calls = math.ceil(len(doubled) / self.batch)
        parts = zip(*(part.tensor_split(calls) for part in (doubled, *prompts)), strict=True)
        positive, negative = torch.cat([self.forward(part, t, *prompt) for part, *prompt in parts]).chunk(2)
        return negative + scale * (positive - negative)


def _both(text: torch.Tensor, unguided: torch.Tensor) -> torch.Tensor:
    """N prompts and N times the unguided one below each other; tokens that are added are 0, and so is their mask."""
    longest = max(text.shape[1], unguided.shape[1])
    parts = text, unguided.expand(len(text), *unguided.shape[1:])
    padded = [torch.nn.functional.pad(p, (0, 0) * (p.ndim - 2) + (0, longest - p.shape[1])) for p in parts]
    return torch.cat(padded)


def stacked(prompts: list[torch.Tensor]) -> torch.Tensor:
    """Prompts [1, tokens, ...] of unequal length in one tensor, filled up with zeros."""
    longest = max(prompt.shape[1] for prompt in prompts)
    pads = [(0, 0) * (prompt.ndim - 2) + (0, longest - prompt.shape[1]) for prompt in prompts]
    return torch.cat([torch.nn.functional.pad(p, pad) for p, pad in zip(prompts, pads, strict=True)])


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


def open_model(folder: Path, height: int, device: torch.device, batch: int) -> WindowModel:
    """The model of a folder; height: of its pictures, in pixels. ValueError for what is missing or broken."""
    if kind_of(folder) == "audio":
        from .audio import AudioModel

        return AudioModel(folder, device, batch)
    from .image import open_image

    return open_image(folder, height, device, batch)


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
