"""The audio families in diffusers' layout: which classes a folder names, and which components they need."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin
from diffusers.pipelines.audioldm2 import AudioLDM2ProjectionModel
from safetensors import SafetensorError
from transformers import (
    AutoTokenizer,
    ClapTextModelWithProjection,
    GPT2Model,
    SpeechT5HifiGan,
    T5EncoderModel,
)

from .folder import INDEX, TANGO, WHO, class_of, component_folder, read_json, weight_files
from .text import ClapText, GeneratedText, T5Text, TextTokenizer
from .unet import AudioLDM2UNet, PromptUNet

MEL_CONFIG = "mel_config.json"  # our own, for a model without vocoder: the fields of Mel
MAY_MISS = ("position_ids", "token_type_ids", "embed_tokens.weight")  # counted from 0, or tied
LIBRARY_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError, pickle.UnpicklingError)


class ClapPrompt(ClapTextModelWithProjection):
    """The text half of CLAP; a whole ClapModel (AudioLDM2, MusicLDM) has it under the same names.

    ClapModel's get_text_features gives an output object on transformers 5, where MusicLDM's pipeline expects a tensor
    and fails; `text_embeds` is a tensor.
    """

    _keys_to_ignore_on_load_unexpected = ["audio_", "logit_scale", "position_ids"]


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
    """Everything a folder holds, in the libraries' own classes, on the CPU.

    text: a module of audio_text, tokenizer: what it reads. scheduler: the scheduler's configuration.
    vocoder: None where the model has none.
    """

    name: str
    unet: torch.nn.Module
    text: torch.nn.Module
    tokenizer: TextTokenizer
    vae: AutoencoderKL
    vocoder: SpeechT5HifiGan | None
    scheduler: dict[str, Any]
    mel: Mel


def audio_parts(folder: Path) -> AudioParts:
    """Load a model folder; refuses what is missing, broken or of an unknown class (ValueError)."""
    if (folder / TANGO).is_file():
        from .tango_layout import tango_parts

        return tango_parts(folder)
    index = read_json(folder / INDEX)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    _expect(index, folder, "vae", ("AutoencoderKL",))
    text, tokenizer = _text(folder, index)
    if class_of(index, "vocoder"):
        _expect(index, folder, "vocoder", ("SpeechT5HifiGan",))
    unet = _unet(folder, index)
    vae = load(AutoencoderKL, folder, "vae")
    vocoder = load(SpeechT5HifiGan, folder, "vocoder") if class_of(index, "vocoder") else None
    if unet.config.in_channels != vae.config.latent_channels:
        raise ValueError(
            f"{WHO}: the UNet of {folder.name} has {unet.config.in_channels} channels, but its VAE makes "
            f"{vae.config.latent_channels}; they are of two models."
        )
    return AudioParts(folder.name, unet, text, tokenizer, vae, vocoder, scheduler, _mel(folder, vocoder))


def _expect(index: dict, folder: Path, name: str, classes: tuple[str, ...]) -> str:
    named = class_of(index, name)
    if named not in classes:
        raise ValueError(
            f"{WHO}: {folder.name}/{INDEX} names {named} as {name!r}, but only {' or '.join(classes)} is known there."
        )
    return named


def _unet(folder: Path, index: dict):
    second = class_of(index, "projection_model") is not None
    wanted = "AudioLDM2UNet2DConditionModel" if second else "UNet2DConditionModel"
    _expect(index, folder, "unet", (wanted,))
    return load(AudioLDM2UNet if second else PromptUNet, folder, "unet")


def _text(folder: Path, index: dict):
    """(module, tokenizer) for the text encoders that the folder names."""
    if class_of(index, "projection_model"):
        return _generated_text(folder, index)
    named = _expect(index, folder, "text_encoder", ("ClapTextModelWithProjection", "ClapModel", "T5EncoderModel"))
    tokens = tokenizer_of(folder, "tokenizer")
    if named == "T5EncoderModel":
        return T5Text(load(T5EncoderModel, folder, "text_encoder")), TextTokenizer(t5=tokens)
    return ClapText(load(ClapPrompt, folder, "text_encoder")), TextTokenizer(clap=tokens)


def _generated_text(folder: Path, index: dict):
    """AudioLDM2: CLAP and T5, joined by a projection, continued by GPT-2."""
    _expect(index, folder, "text_encoder", ("ClapModel",))
    # VitsModel, the speech variant, needs phonemes of a transcription: not a text-to-audio prompt
    _expect(index, folder, "text_encoder_2", ("T5EncoderModel",))
    _expect(index, folder, "projection_model", ("AudioLDM2ProjectionModel",))
    # Converted checkpoints name GPT2Model, with which the library's own loop fails on transformers 5; the eight
    # hidden states need neither its head nor its generation code, so the plain model serves both names.
    _expect(index, folder, "language_model", ("GPT2Model", "GPT2LMHeadModel"))
    tokens = {"clap": tokenizer_of(folder, "tokenizer"), "t5": tokenizer_of(folder, "tokenizer_2")}
    text = GeneratedText(
        load(ClapPrompt, folder, "text_encoder"),
        load(T5EncoderModel, folder, "text_encoder_2"),
        load(AudioLDM2ProjectionModel, folder, "projection_model"),
        load(GPT2Model, folder, "language_model"),
        read_json(folder / "language_model" / "config.json").get("max_new_tokens", 8),
    )
    return text, TextTokenizer(**tokens)


def tokenizer_of(folder: Path, name: str):
    part = component_folder(folder, name)
    try:
        return AutoTokenizer.from_pretrained(part, local_files_only=True)
    except LIBRARY_ERRORS as error:
        raise ValueError(f"{WHO}: the tokenizer {folder.name}/{name} does not load ({first_line(error)}).") from error


def load(kind, folder: Path, name: str):
    """One component with all its weights, in float32 on the CPU, from local files alone (ValueError)."""
    part = component_folder(folder, name)
    read_json(part / "config.json")
    files = weight_files(part)
    # diffusers' other way needs accelerate
    options = {"low_cpu_mem_usage": False} if issubclass(kind, ModelMixin) else {}
    try:
        model, report = kind.from_pretrained(
            part,
            local_files_only=True,
            use_safetensors=files[0].suffix == ".safetensors",
            variant="fp16" if all(".fp16." in file.name for file in files) else None,
            output_loading_info=True,
            torch_dtype=torch.float32,
            **options,
        )
    except LIBRARY_ERRORS as error:
        raise ValueError(f"{WHO}: {folder.name}/{name} does not load ({first_line(error)}).") from error
    missing = [key for key in report["missing_keys"] if not key.endswith(MAY_MISS)]
    if missing or report["mismatched_keys"]:
        raise ValueError(
            f"{WHO}: {folder.name}/{name} lacks {len(missing)} weights that a {kind.__name__} needs"
            f"{f', such as {sorted(missing)[0]}' if missing else ''}; download the model again."
        )
    return model.eval().requires_grad_(False)


def first_line(error: Exception) -> str:
    """An error of a library in short."""
    return str(error).strip().split("\n")[0][:200].rstrip(". ") or type(error).__name__


def _mel(folder: Path, vocoder) -> Mel:
    """From mel_config.json where there is one, else from the vocoder, else AudioLDM's."""
    fields = read_json(folder / MEL_CONFIG) if (folder / MEL_CONFIG).is_file() else {}
    unknown = fields.keys() - Mel.__dataclass_fields__.keys()
    if unknown:
        raise ValueError(f"{WHO}: {folder.name}/{MEL_CONFIG} has unknown fields {sorted(unknown)}.")
    if fields.get("log", "ln") not in ("ln", "log10"):
        raise ValueError(f'{WHO}: {folder.name}/{MEL_CONFIG} expects log "ln" or "log10", got {fields["log"]!r}.')
    if vocoder is not None:
        rate = vocoder.config.sampling_rate
        fields = {
            "fmax": rate / 2,
            **fields,
            "sampling_rate": rate,
            "hop_length": math.prod(vocoder.config.upsample_rates),
            "n_mels": vocoder.config.model_in_dim,
        }
    return Mel(**fields)
