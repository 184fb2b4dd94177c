"""The parts of an audio model, whatever layout its folder has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import SpeechT5HifiGan

from .text import TextTokenizer


@dataclass(frozen=True)
class Mel:
    """The log-mel spectrogram between VAE and vocoder. sampling_rate, fmin, fmax in Hz; hop_length, n_fft in samples.

    Defaults are AudioLDM's. log: "ln" or "log10", of magnitudes clamped at 1e-5. Slaney filters, Slaney norm.
    """

    sampling_rate: int = 16000
    hop_length: int = 160
    n_fft: int = 1024
    n_mels: int = 64
    fmin: float = 0.0
    fmax: float = 8000.0
    log: str = "ln"


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
