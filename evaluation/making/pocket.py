"""The pocket model through diffusers and transformers alone, independent of ComfyUI."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from pathlib import Path

import torch

from ...safa_core.loading import LOCAL
from ...training.sounds import CLASSES, clip
from ..scores.sound import MEL
from .schedule import DDIM
from .window_model import WindowModel

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@cache
def caption(name: str, seed: int) -> str:
    """Prompt number `seed` of a class: the caption of a held-out clip."""
    number = CLASSES.index(name) + len(CLASSES) * seed
    return clip("held-out", number, 5.12, 0.0).caption


class PocketModel(WindowModel):
    """A text-to-audio folder of diffusers: UNet2DConditionModel, AutoencoderKL, T5EncoderModel, DDIMScheduler.

    Latents are [B, C, F, T], time last; the UNet sees [B, C, T, F]. Prompts are the classes of the synthesised sounds.
    """

    kind = "pocket"
    long_axis = 0
    prompts = CLASSES

    def __init__(self, folder: Path, device: torch.device, batch: int = 32):
        missing = [part for part in PARTS if not (folder / part).is_dir()]
        if missing:
            raise ValueError(f"Expected a model folder with {', '.join(PARTS)}, got {folder} without {missing[0]}.")
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        from transformers import AutoTokenizer, T5EncoderModel, logging

        logging.disable_progress_bar()
        whole = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **whole, **LOCAL)
        self.vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", **whole, **LOCAL)
        self.text = T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32, **LOCAL)
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", **LOCAL)
        for part in (unet, self.vae, self.text):
            part.eval().requires_grad_(False).to(device)
        unet.to(memory_format=torch.channels_last)  # a quarter faster in bfloat16
        scheduler = DDIM(DDIMScheduler.from_pretrained(folder, subfolder="scheduler", **LOCAL))
        super().__init__(unet, scheduler, device, batch)
        self.downsampling = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.view = unet.config.sample_size[0]
        self.seconds = self.view * self.downsampling * MEL.hop / MEL.sample_rate

    def latent_shape(self, columns: int) -> tuple[int, int, int]:
        return self.network.config.in_channels, MEL.bins // self.downsampling, columns

    def caption(self, prompt: str, seed: int) -> str:
        return caption(prompt, seed)

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Text states [B, tokens, D] and their mask [B, tokens]."""
        tokens = self.tokenizer(prompts, padding=True, return_tensors="pt").to(self.device)
        states = self.text(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        return states, tokens.attention_mask

    def forward(self, latents: torch.Tensor, t: torch.Tensor, *text: torch.Tensor) -> torch.Tensor:
        states, mask = text
        prompt = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        with torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext():
            return self.network(latents.transpose(-1, -2), t, **prompt).sample.float().transpose(-1, -2)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, loop: bool = False) -> torch.Tensor:
        """Latents [N, C, F, T] -> ln mel [N, frames, bins]; windows are decoded one by one, never a ring."""
        scaled = latents.transpose(-1, -2) / self.vae.config.scaling_factor
        return torch.cat([self.vae.decode(part.to(self.device)).sample[:, 0].cpu() for part in scaled.split(8)])

    @torch.inference_mode()
    def to_latent(self, mel: torch.Tensor) -> torch.Tensor:
        """Ln mel [N, frames, bins] -> latents [N, C, F, T], without the encoder's noise."""
        modes = [self.vae.encode(part[:, None].to(self.device)).latent_dist.mode().cpu() for part in mel.split(8)]
        return torch.cat(modes).transpose(-1, -2) * self.vae.config.scaling_factor
