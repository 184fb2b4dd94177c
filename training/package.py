"""A trained model as a folder in diffusers' layout, which SaFa Audio Model Loader and the libraries read."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import PreTrainedTokenizerFast, SpeechT5HifiGan, T5EncoderModel

from .data import MEL
from .diffusion import SCHEDULER

INDEX = {
    "_class_name": "SaFaPocket",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "vocoder": ["transformers", "SpeechT5HifiGan"],
}


def write_model(
    folder: Path,
    vae: AutoencoderKL,
    text: T5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    unet: UNet2DConditionModel,
    vocoder: SpeechT5HifiGan | None,
    loudest: float,
    texts: dict[str, str],
    log: list[dict],
) -> None:
    """Write everything in half precision beside `folder`, then put it in its place.

    vae: standardised, so that its scale factor is 1. vocoder: None where Griffin-Lim makes the sound. loudest: log-mel
    that decoded ones are held at. texts: files by name, such as README.md; log: of the training, lines.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    vae.register_to_config(scaling_factor=1.0)
    unet.to(memory_format=torch.contiguous_format)
    modules = {"vae": vae, "text_encoder": text, "unet": unet, "vocoder": vocoder}
    for name, module in modules.items():
        if module is not None:
            module.half().cpu().save_pretrained(part / name, safe_serialization=True)
    tokenizer.save_pretrained(part / "tokenizer")
    DDIMScheduler(**SCHEDULER).save_pretrained(part / "scheduler")
    index = INDEX if vocoder is not None else {**INDEX, "vocoder": [None, None]}
    (part / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    (part / "mel_config.json").write_text(json.dumps(_mel_config(loudest), indent=2) + "\n", encoding="utf-8")
    for name, content in texts.items():
        (part / name).write_text(content, encoding="utf-8")
    lines = "".join(json.dumps(line) + "\n" for line in log)
    (part / "training_log.jsonl").write_text(lines, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def _mel_config(loudest: float) -> dict:
    mel = asdict(MEL)
    names = {"sampling_rate": "sample_rate", "hop_length": "hop", "n_mels": "bins"}
    fields = {name: mel[names.get(name, name)] for name in (*names, "n_fft", "fmin", "fmax", "log")}
    return {**fields, "loudest": round(loudest, 2)}
