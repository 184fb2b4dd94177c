"""SaFa Audio Model Loader: an audio model's folder as the host's MODEL, CLIP and VAE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

import comfy.sd
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..errors import named
from ..sockets import CATEGORY
from .folder import INDEX, NAME, TANGO, audio_models, find_model, read_json
from .live_spectrogram import fit_linear_map, with_live_spectrogram

if TYPE_CHECKING:
    from .parts import AudioParts
    from .vae import AudioVAE


class SaFaAudioModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaAudioModelLoader",
            display_name=NAME,
            category=CATEGORY,
            description=(
                "Loads AudioLDM, AudioLDM2, MusicLDM (diffusers layout) or Tango and Tango 2 (their own) from "
                "models/audio_models or models/diffusers, for the host's own nodes and SaFa's. A small model that "
                "knows a few sounds comes with the pack."
            ),
            search_aliases=["safa", "audioldm", "audioldm2", "musicldm", "tango", "text to audio", "load audio model"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=list(audio_models()),
                    tooltip="A folder with model_index.json (diffusers) or main_config.json (Tango) in "
                    "models/audio_models or models/diffusers. Nothing is downloaded.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="The denoiser; it shows its spectrogram while it samples."
                ),
                io.Clip.Output(display_name="clip", tooltip="The text encoders, for CLIP Text Encode."),
                io.Vae.Output(
                    display_name="vae",
                    tooltip="VAE and vocoder, for Mel Decode, VAE Decode Audio and VAE Encode Audio.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        with named(NAME):
            return io.NodeOutput(*load_audio_model(find_model(model_name)))


def load_audio_model(path: Path) -> tuple[ModelPatcher, comfy.sd.CLIP, AudioVAE]:
    """(MODEL, CLIP, VAE) of a model's folder; refuses what is missing, broken or unknown (ValueError)."""
    # diffusers takes seconds to import, so only who loads a model waits for it
    from .model import host_model
    from .text import host_clip
    from .vae import AudioVAE

    with torch.inference_mode(False):  # weights that methods with gradients (SyncDiffusion) can use
        parts = audio_parts(path)
        model = host_model(parts)
        clip = host_clip(parts.text, parts.tokenizer)
        vae = AudioVAE(parts)
    # how the host makes another copy of the weights for another device (Select Model Device, MultiGPU CFG Split)
    model.cached_patcher_init = (load_model_again, (path, model.model.latent_format))
    clip.patcher.cached_patcher_init = (load_clip_again, (path,))
    vae.patcher.cached_patcher_init = (load_vae_again, (path,))
    return with_live_spectrogram(model, lambda: fit_linear_map(vae)), clip, vae


def load_model_again(path: Path, latent_format: LatentFormat, disable_dynamic: bool = False) -> ModelPatcher:
    """The MODEL of a folder with weights of its own; it shares the live spectrogram in `latent_format`."""
    from .model import host_model

    with torch.inference_mode(False):
        patcher = host_model(audio_parts(path))
    patcher.model.latent_format = latent_format
    return _patcher(patcher, disable_dynamic)


def load_clip_again(path: Path, disable_dynamic: bool = False) -> ModelPatcher:
    """The text encoders of a folder with weights of their own."""
    from .text import host_clip

    with torch.inference_mode(False):
        parts = audio_parts(path)
        return _patcher(host_clip(parts.text, parts.tokenizer).patcher, disable_dynamic)


def load_vae_again(path: Path, disable_dynamic: bool = False) -> ModelPatcher:
    """The VAE of a folder with weights of its own."""
    from .vae import AudioVAE

    with torch.inference_mode(False):
        return _patcher(AudioVAE(audio_parts(path)).patcher, disable_dynamic)


def _patcher(patcher: ModelPatcher, disable_dynamic: bool) -> ModelPatcher:
    """A patcher of weights that nothing has loaded yet, of the host's plain kind where it asks for that."""
    if not (disable_dynamic and patcher.is_dynamic()):
        return patcher
    return ModelPatcher(patcher.model, patcher.load_device, patcher.offload_device)


def audio_parts(path: Path) -> AudioParts:
    """Everything that a model's folder of either layout holds (ValueError as for `load_audio_model`)."""
    from .diffusers_layout import diffusers_parts
    from .model_folder import ModelFolder
    from .tango_layout import tango_parts

    if (path / TANGO).is_file():
        return tango_parts(ModelFolder(path, {}))
    return diffusers_parts(ModelFolder(path, read_json(path / INDEX)))
