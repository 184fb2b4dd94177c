"""SaFa Audio Model Loader: an audio model's folder as the host's MODEL, CLIP and VAE."""

from __future__ import annotations

import torch

from comfy_api.latest import io

from ..sockets import CATEGORY
from .folder import audio_models, model_folder
from .live_spectrogram import fit_linear_map, with_live_spectrogram


class SaFaAudioModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SaFaAudioModelLoader",
            display_name="SaFa Audio Model Loader",
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
    def execute(cls, model_name) -> io.NodeOutput:
        folder = model_folder(model_name)
        return io.NodeOutput(*load_audio_model(folder))


def load_audio_model(folder):
    """(MODEL, CLIP, VAE) of a model folder."""
    # diffusers takes seconds to import, so only who loads a model waits for it
    from .diffusers_layout import audio_parts
    from .model import host_model
    from .text import host_clip
    from .vae import AudioVAE

    with torch.inference_mode(False):  # weights that methods with gradients (SyncDiffusion) can use
        parts = audio_parts(folder)
        model, clip, vae = host_model(parts), host_clip(parts.text, parts.tokenizer), AudioVAE(parts)
    return with_live_spectrogram(model, lambda: fit_linear_map(vae)), clip, vae
