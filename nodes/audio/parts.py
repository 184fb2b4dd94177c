"""The parts of an audio model, whatever layout its folder has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import SpeechT5HifiGan

from .shapes import Mel
from .text import TextTokenizer


@dataclass(frozen=True)
class AudioParts:
    """Everything a model's folder holds, in the libraries' own classes, on the CPU.

    name: of the folder. text: a text encoder of text.py, tokenizer: what makes its token ids.
    vocoder: None where the model has none. scheduler: the scheduler's configuration.
    """

    name: str
    unet: torch.nn.Module
    text: torch.nn.Module
    tokenizer: TextTokenizer
    vae: AutoencoderKL
    vocoder: SpeechT5HifiGan | None
    scheduler: dict[str, Any]
    mel: Mel
