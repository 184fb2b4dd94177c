"""Audio models by the pack's own loader: AudioLDM, AudioLDM2, MusicLDM, Tango and folders like models/safa-pocket."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ...bootstrap import host
from .folder import INDEX
from .pocket import CLASSES, caption
from .schedule import DDIM
from .window_model import WindowModel, stacked

OWN_PROMPTS = 9  # as many as Table 2 has
INPUTS = {1: ("y",), 2: ("context", "context_mask"), 3: ("context", "context_1", "context_1_mask")}  # of the network


class AudioModel(WindowModel):
    """A text-to-audio model on latents [N, C, F, T], time last; its network has the time first."""

    long_axis = 0

    def __init__(self, folder: Path, device: torch.device, batch: int):
        host()  # the pack's loader is made for its layers and memory management
        from transformers import logging

        from ...nodes.audio.loader import audio_parts
        from ...nodes.audio.model import sampling_settings
        from ...nodes.audio.shapes import audio_latent
        from ...nodes.audio.vae import AudioVAE

        logging.disable_progress_bar()
        parts = audio_parts(folder)
        sampling_settings(parts.scheduler, parts.name)  # refuses what DDIM does not know
        super().__init__(parts.unet.to(device), DDIM.of(parts.scheduler), device, batch)
        latent = audio_latent(parts.unet.config, parts.vae.config, parts.mel)
        self.text = parts.text.to(device)
        self.text.set_clip_options({"execution_device": device})
        self.tokenizer = parts.tokenizer
        self.vae = AudioVAE(parts)
        self.rows = latent.rows
        self.scaling = latent.scale_factor
        self.sample_rate = parts.mel.sampling_rate
        self.seconds = latent.native_seconds
        self.view = round(latent.native_seconds * latent.columns_per_second)
        index = folder / INDEX
        if index.is_file() and json.loads(index.read_text(encoding="utf-8")).get("_class_name") == "SaFaPocket":
            self.prompts = tuple(caption(name, 0) for name in CLASSES[:OWN_PROMPTS])

    def latent_shape(self, columns: int) -> tuple[int, int, int]:
        return self.network.config.in_channels, self.rows, columns

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, ...]:
        """As `forward` takes them: a vector [B, D], tokens and mask, or AudioLDM2's tokens and T5's with their mask."""
        from ...nodes.audio.text import GENERATED

        columns: list[list[torch.Tensor]] = []
        for prompt in prompts:
            cond, pooled, *extra = self.text.encode_token_weights(self.tokenizer.tokenize_with_weights(prompt))
            if extra:
                t5 = extra[0][GENERATED]
                columns.append([cond, t5, torch.ones(t5.shape[:2])])
            elif pooled is not None:
                columns.append([pooled])
            else:
                columns.append([cond, torch.ones(cond.shape[:2])])
        return tuple(stacked(list(column)).to(self.device) for column in zip(*columns, strict=True))

    def forward(self, latents: torch.Tensor, t: torch.Tensor, *text: torch.Tensor) -> torch.Tensor:
        prompt = dict(zip(INPUTS[len(text)], text, strict=True))
        return self.network(latents.transpose(-1, -2), t.to(latents.device), **prompt).transpose(-1, -2)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, loop: bool) -> torch.Tensor:
        """By Mel Decode: a vocoder where the folder has one, else Griffin-Lim."""
        from ...nodes.decode.sound_decoder import decode_mel

        return decode_mel(self.vae, latents.transpose(-1, -2) / self.scaling, loop)[0][:, 0].cpu()
