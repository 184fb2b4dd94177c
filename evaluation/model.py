"""The pocket model through diffusers and transformers alone, independent of ComfyUI."""

from __future__ import annotations

import hashlib
import math
from contextlib import nullcontext
from pathlib import Path

import torch

from ..safa_core.sound.mel import MelScale

MEL = MelScale(sample_rate=16000, bins=64, hop=160, fmin=0, fmax=8000)
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


class PocketModel:
    """A text-to-audio folder of diffusers: UNet2DConditionModel, AutoencoderKL, T5EncoderModel, DDIMScheduler.

    Latents are [B, C, F, T] here, time last, as safa_core wants them; the UNet sees [B, C, T, F].

    batch:    windows in one call of the UNet, guided and unguided counted apart.
    autocast: the UNet computes in bfloat16.
    reference_axis: what alternates in the Reference-Guided Swap. long_axis: where the UNet has the time.
    """

    reference_axis = "frames"
    long_axis = 0

    def __init__(self, folder: Path, batch: int = 32, autocast: bool = False):
        missing = [part for part in PARTS if not (folder / part).is_dir()]
        if missing:
            raise ValueError(f"Expected a model folder with {', '.join(PARTS)}, got {folder} without {missing[0]}.")
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        from transformers import AutoTokenizer, T5EncoderModel, logging

        logging.disable_progress_bar()
        local = {"local_files_only": True}
        whole = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False, **local}
        self.unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **whole)
        self.vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", **whole)
        self.text = T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32, **local)
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", **local)
        self.scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler", **local)
        for part in (self.unet, self.vae, self.text):
            part.eval().requires_grad_(False)
        self.unet.to(memory_format=torch.channels_last)  # a quarter faster in bfloat16
        self.batch, self.autocast = batch, autocast
        self.evaluations = 0  # of the UNet on one window, guided and unguided counted apart
        weights = sorted(folder.glob("*/*.safetensors"))
        self.fingerprint = hashlib.sha256(b"".join(path.read_bytes() for path in weights)).hexdigest()[:16]

    @property
    def network(self) -> torch.nn.Module:
        """The denoiser."""
        return self.unet

    @property
    def view(self) -> int:
        """Columns of the native window."""
        return self.unet.config.sample_size[0]

    @property
    def columns_per_second(self) -> float:
        return MEL.sample_rate / MEL.hop / self._downsampling

    def latent_shape(self, columns: int) -> tuple[int, int, int]:
        """[C, F, T] of a latent of so many columns."""
        return self.unet.config.in_channels, MEL.bins // self._downsampling, columns

    @property
    def _downsampling(self) -> int:
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Text states [B, tokens, D] and their mask [B, tokens]."""
        tokens = self.tokenizer(prompts, padding=True, return_tensors="pt")
        return self.text(**_known(tokens)).last_hidden_state, tokens.attention_mask

    def guided(self, latents: torch.Tensor, t: int, text, unguided, scale: float) -> torch.Tensor:
        """The UNet's output for latents [N, C, F, T] under classifier-free guidance.

        text, unguided: (states, mask) as `encode` returns them, N prompts and one.
        """
        states, mask = (torch.cat(pair) for pair in zip(text, _as_many(unguided, text), strict=True))
        doubled = torch.cat([latents, latents]).transpose(-1, -2)
        calls = math.ceil(len(doubled) / self.batch)
        parts = zip(*(part.tensor_split(calls) for part in (doubled, states, mask)), strict=True)
        positive, negative = torch.cat([self._forward(part, t, *prompt) for part, *prompt in parts]).chunk(2)
        return (negative + scale * (positive - negative)).transpose(-1, -2)

    def _forward(self, latents, t, states, mask):
        self.evaluations += len(latents)
        with torch.autocast("cpu", torch.bfloat16) if self.autocast else nullcontext():
            return self.unet(latents, t, encoder_hidden_states=states, encoder_attention_mask=mask).sample.float()

    @torch.inference_mode()
    def to_mel(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [N, C, F, T] -> ln mel [N, 4 * T, bins]."""
        scaled = latents.transpose(-1, -2) / self.vae.config.scaling_factor
        return torch.cat([self.vae.decode(part).sample[:, 0] for part in scaled.split(8)])

    @torch.inference_mode()
    def to_latent(self, mel: torch.Tensor) -> torch.Tensor:
        """Ln mel [N, 4 * T, bins] -> latents [N, C, F, T], without the encoder's noise."""
        modes = [self.vae.encode(part[:, None]).latent_dist.mode() for part in mel.split(8)]
        return torch.cat(modes).transpose(-1, -2) * self.vae.config.scaling_factor


def _known(tokens) -> dict:
    """What T5 takes of a tokenizer's output."""
    return {name: tokens[name] for name in ("input_ids", "attention_mask")}


def _as_many(one, many):
    """One prompt's states and mask for as many rows and tokens as `many` has; what is added is masked."""
    rows, more = len(many[1]), many[1].shape[1] - one[1].shape[1]
    states = torch.nn.functional.pad(one[0], (0, 0, 0, more)).expand(rows, -1, -1)
    return states, torch.nn.functional.pad(one[1], (0, more)).expand(rows, -1)
