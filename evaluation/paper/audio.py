"""Audio models by the pack's own loader: AudioLDM, AudioLDM2, MusicLDM, Tango and folders like models/safa-pocket."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from ..work import CLASSES, caption
from .model import INDEX, WindowModel, stacked
from .schedule import DDIM

ROOT = Path(__file__).resolve().parent.parent.parent
OWN_PROMPTS = 9  # as many as Table 2 has


class AudioModel(WindowModel):
    """A text-to-audio model on latents [N, C, F, T], time last; its network has the time first.

    view: latent columns of the model's own window. sample_rate: of its sound, in Hz.
    """

    long_axis = 0

    def __init__(self, folder: Path, device: torch.device, batch: int):
        import_host()
        from transformers import logging

        from ...nodes.audio.loader import audio_parts
        from ...nodes.audio.model import latent_format, sampling_settings
        from ...nodes.audio.vae import AudioVAE

        logging.disable_progress_bar()
        parts = audio_parts(folder)
        sampling_settings(parts.scheduler, parts.name)  # refuses what DDIM does not know
        super().__init__(parts.unet.to(device), DDIM.of(parts.scheduler), device, batch)
        latent = latent_format(parts)
        self.text, self.tokenizer, self.vae = parts.text.to(device), parts.tokenizer, AudioVAE(parts)
        self.text.set_clip_options({"execution_device": device})
        self.rows, self.scaling, self.sample_rate = latent.rows, latent.scale_factor, parts.mel.sampling_rate
        self.view = round(latent.native_seconds * latent.columns_per_second)
        self.seconds = latent.native_seconds
        index = folder / INDEX
        if index.is_file() and json.loads(index.read_text(encoding="utf-8")).get("_class_name") == "SaFaPocket":
            self.prompts = tuple(caption(name, 0) for name in CLASSES[:OWN_PROMPTS])

    def columns(self, length: float, view: float) -> int:
        """In proportion: `view` seconds are the model's own window."""
        return round(length / view * self.view)

    def latent_shape(self, columns: int) -> tuple[int, int, int]:
        return self.network.config.in_channels, self.rows, columns

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, ...]:
        """As `forward` takes them: a vector [B, D], tokens and mask, or AudioLDM2's tokens and T5's with their mask."""
        from ...nodes.audio.text import GENERATED

        made = [self.text.encode_token_weights(self.tokenizer.tokenize_with_weights(prompt)) for prompt in prompts]
        if len(made[0]) == 3:
            found = [(cond, extra[GENERATED]) for cond, _, extra in made]
            second = [extra for _, extra in found]
            columns = [[cond for cond, _ in found], second, [torch.ones(e.shape[:2]) for e in second]]
        elif made[0][1] is not None:
            columns = [[pooled for _, pooled in made]]
        else:
            columns = [[cond for cond, _ in made], [torch.ones(cond.shape[:2]) for cond, _ in made]]
        return tuple(stacked(column).to(self.device) for column in columns)

    def forward(self, latents, t, *text):
        names = {1: ("y",), 2: ("context", "context_mask"), 3: ("context", "context_1", "context_1_mask")}[len(text)]
        prompt = dict(zip(names, text, strict=True))
        return self.network(latents.transpose(-1, -2), t.to(latents.device), **prompt).transpose(-1, -2)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, loop: bool) -> torch.Tensor:
        """By Mel Decode: a vocoder where the folder has one, else Griffin-Lim."""
        from ...nodes.decode.sound_decoder import decode_mel

        return decode_mel(self.vae, latents.transpose(-1, -2) / self.scaling, loop)[0][:, 0].cpu()


def import_host() -> None:
    """ComfyUI in reach, whose layers and memory management the pack's loader is made for (ValueError where it is not).

    `python run.py` says where it is.
    """
    folder = os.environ.get("SAFA_COMFYUI_PATH") or str(ROOT / ".host" / "ComfyUI")
    if not (Path(folder) / "comfy").is_dir():
        raise ValueError(f"Expected ComfyUI in {folder}, which has none: start by `python run.py eval`.")
    if folder not in sys.path:  # the host's `nodes` is a module, the repository's a folder
        sys.path[:] = [folder] + [path for path in sys.path if Path(path or ".").resolve() != ROOT]
    from comfy.cli_args import args

    args.cpu = args.cpu or not torch.cuda.is_available()
