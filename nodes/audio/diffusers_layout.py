"""The audio families in diffusers' layout: which classes a folder names, and which components they need."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from diffusers.pipelines.audioldm2 import AudioLDM2ProjectionModel
from transformers import ClapTextModelWithProjection, GPT2Model, SpeechT5HifiGan, T5EncoderModel

from .fields import LanguageFields, SchedulerFields, UnetFields, VaeFields, VocoderFields
from .model_folder import ModelFolder
from .parts import AudioParts
from .shapes import read_mel
from .text import ClapText, GeneratedText, T5Text, TextTokenizer
from .unet import AudioLDM2UNet, PromptUNet


class ClapPrompt(ClapTextModelWithProjection):
    """The text half of CLAP; a whole ClapModel (AudioLDM2, MusicLDM) has it under the same names.

    ClapModel's get_text_features gives an output object on transformers 5, where MusicLDM's pipeline expects a tensor
    and fails; `text_embeds` is a tensor.
    """

    _keys_to_ignore_on_load_unexpected = ["audio_", "logit_scale", "position_ids"]


def diffusers_parts(folder: ModelFolder) -> AudioParts:
    """Load a folder with a model_index.json; refuses what is missing, broken or of an unknown class (ValueError)."""
    scheduler = folder.json("scheduler/scheduler_config.json")
    folder.fields(SchedulerFields, "scheduler/scheduler_config.json")
    folder.expect("vae", "AutoencoderKL")
    folder.described(VaeFields, "vae")
    folder.described(UnetFields, "unet")
    if folder.class_of("vocoder"):
        folder.expect("vocoder", "SpeechT5HifiGan")
        folder.described(VocoderFields, "vocoder")
    text, tokenizer = _text(folder)
    unet = _unet(folder)
    vae = folder.load(AutoencoderKL, "vae")
    vocoder = folder.load(SpeechT5HifiGan, "vocoder") if folder.class_of("vocoder") else None
    if unet.config.in_channels != vae.config.latent_channels:
        raise ValueError(
            f"the UNet of {folder.name} has {unet.config.in_channels} channels, but its VAE makes "
            f"{vae.config.latent_channels}; they are of two models."
        )
    mel = read_mel(folder.path, None if vocoder is None else vocoder.config)
    return AudioParts(folder.name, unet, text, tokenizer, vae, vocoder, scheduler, mel)


def _unet(folder: ModelFolder) -> torch.nn.Module:
    if folder.class_of("projection_model") is None:
        folder.expect("unet", "UNet2DConditionModel")
        return folder.load(PromptUNet, "unet")
    folder.expect("unet", "AudioLDM2UNet2DConditionModel")
    return folder.load(AudioLDM2UNet, "unet")


def _text(folder: ModelFolder) -> tuple[torch.nn.Module, TextTokenizer]:
    """(module, tokenizer) of the text encoders that the folder names."""
    if folder.class_of("projection_model"):
        return _generated_text(folder)
    kind = folder.expect("text_encoder", "ClapTextModelWithProjection", "ClapModel", "T5EncoderModel")
    tokens = folder.tokenizer("tokenizer")
    if kind == "T5EncoderModel":
        return T5Text(folder.load(T5EncoderModel, "text_encoder")), TextTokenizer(t5=tokens)
    return ClapText(folder.load(ClapPrompt, "text_encoder")), TextTokenizer(clap=tokens)


def _generated_text(folder: ModelFolder) -> tuple[torch.nn.Module, TextTokenizer]:
    """AudioLDM2: CLAP and T5, joined by a projection, continued by GPT-2."""
    folder.expect("text_encoder", "ClapModel")
    # VitsModel, the speech variant, needs phonemes of a transcription: not a text-to-audio prompt
    folder.expect("text_encoder_2", "T5EncoderModel")
    folder.expect("projection_model", "AudioLDM2ProjectionModel")
    # Converted checkpoints name GPT2Model, with which the library's own loop fails on transformers 5; the eight
    # hidden states need neither its head nor its generation code, so the plain model serves both names.
    folder.expect("language_model", "GPT2Model", "GPT2LMHeadModel")
    tokenizer = TextTokenizer(clap=folder.tokenizer("tokenizer"), t5=folder.tokenizer("tokenizer_2"))
    text = GeneratedText(
        folder.load(ClapPrompt, "text_encoder"),
        folder.load(T5EncoderModel, "text_encoder_2"),
        folder.load(AudioLDM2ProjectionModel, "projection_model"),
        folder.load(GPT2Model, "language_model"),
        folder.described(LanguageFields, "language_model").max_new_tokens,
    )
    return text, tokenizer
