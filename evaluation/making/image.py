"""Stable Diffusion 1.5, 2.x and 3.x from folders in diffusers' layout, window by window."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ...safa_core.errors import shorten
from ...safa_core.loading import LOCAL
from .folder import INDEX, PICTURES
from .merging import JointMerging
from .schedule import DDIM, FlowEuler
from .window_model import WindowModel

OPTIONAL = {  # parts that a pipeline does without
    "StableDiffusionPipeline": ("safety_checker", "feature_extractor"),
    "StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3", "image_encoder", "feature_extractor"),
}
LIBRARY_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError)


class ImageModel(WindowModel):
    """What the families share. pipe: the library's pipeline, whose parts are used one by one."""

    kind = "image"
    reference_axis = "rows"

    def __init__(self, pipe, network, scheduler, height: int, device: torch.device, batch: int):
        super().__init__(network, scheduler, device, batch)
        self.pipe = pipe
        self.vae = pipe.vae
        self.scale = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.rows = self.columns(height, 0)

    def columns(self, length: float, view: float) -> int:
        count, rest = divmod(length, self.scale)
        if rest or count < 1:
            raise ValueError(f"Expected sizes in multiples of {self.scale} pixels, got {length:g}.")
        return int(count)

    def latent_shape(self, columns: int) -> tuple[int, int, int]:
        return self.network.config.in_channels, self.rows, columns

    def pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, rows, columns] as pictures [B, 3, H, W], 0 ... 1 but for what the decoder overshoots."""
        config = self.vae.config
        plain = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        return self.vae.decode(plain).sample / 2 + 0.5

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, loop: bool) -> torch.Tensor:
        return torch.cat([self.pictures(one.to(self.device)).clamp(0, 1).cpu() for one in latents.split(1)])


class UNetModel(ImageModel):
    """Stable Diffusion 1.5 and 2.x."""

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, ...]:
        """(text states [B, 77, D],)."""
        return (self.pipe.encode_prompt(prompts, self.device, 1, False)[0],)

    def forward(self, latents: torch.Tensor, t: torch.Tensor, *text: torch.Tensor) -> torch.Tensor:
        return self.network(latents, t.to(latents.device), encoder_hidden_states=text[0]).sample


class TransformerModel(ImageModel):
    """Stable Diffusion 3.x, whose flow is followed by Euler's steps."""

    merging = JointMerging

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, ...]:
        """(text states [B, tokens, D], pooled [B, P])."""
        states, _, pooled, _ = self.pipe.encode_prompt(
            prompts, None, None, self.device, do_classifier_free_guidance=False
        )
        return states, pooled

    def forward(self, latents: torch.Tensor, t: torch.Tensor, *text: torch.Tensor) -> torch.Tensor:
        states, pooled = text
        times = t.to(latents.device).expand(len(latents))
        prompt = {"encoder_hidden_states": states, "pooled_projections": pooled}
        return self.network(hidden_states=latents, timestep=times, **prompt).sample

    @property
    def coarsest(self) -> int:
        return self.network.config.patch_size


def open_image(folder: Path, height: int, device: torch.device, batch: int) -> ImageModel:
    """The model of a folder, in float32; ValueError for what is missing or broken."""
    import diffusers
    import transformers

    transformers.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    named = index["_class_name"]
    missing = [part for part in (PICTURES[named], "vae", "text_encoder", "tokenizer") if not (folder / part).is_dir()]
    if missing:
        raise ValueError(f"Expected a whole model folder, got {folder} without {missing[0]}: download it again.")
    left_out = {part: None for part in OPTIONAL[named] if index.get(part) in (None, [None, None])}
    if named == "StableDiffusionPipeline":
        left_out = dict.fromkeys(OPTIONAL[named]) | {"requires_safety_checker": False}
    try:
        pipe = getattr(diffusers, named).from_pretrained(folder, low_cpu_mem_usage=False, **LOCAL, **left_out)
        scheduler = (DDIM if PICTURES[named] == "unet" else FlowEuler).of(pipe.scheduler.config)
    except LIBRARY_ERRORS as error:
        raise ValueError(f"Expected a {named} in {folder}, but it does not load: {shorten(error)}.") from error
    network = getattr(pipe, PICTURES[named])
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            torch.nn.Module.to(part.eval().requires_grad_(False), device, torch.float32)
    kind = UNetModel if PICTURES[named] == "unet" else TransformerModel
    return kind(pipe, network, scheduler, height, device, batch)
