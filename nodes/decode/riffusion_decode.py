"""Riffusion Decode: pictures that are spectrograms, to sound."""

from __future__ import annotations

import torch

import comfy.model_management
from comfy_api.latest import io

from ...safa_core.sound.mel import RIFFUSION, GriffinLim, riffusion_mel
from ..errors import named
from ..node_text import show_text, text_output
from ..sockets import CATEGORY

NAME = "Riffusion Decode"
BLOCK = 512  # frames that get their phases together: 8821 frequencies each


def check(image: torch.Tensor, stereo: bool) -> None:
    """Refuse a picture [B, H, W, C] that is not Riffusion's (ValueError)."""
    if image.shape[1] != RIFFUSION.bins or not image.shape[2]:
        raise ValueError(
            f"expected a picture {RIFFUSION.bins} pixels high, got {image.shape[2]} x {image.shape[1]}; Riffusion's "
            "rows are its frequencies, so a scaled picture sounds wrong."
        )
    if stereo and image.shape[3] < 3:
        raise ValueError(
            f"stereo is read from green and blue, but the picture has {image.shape[3]} channels; switch `stereo` off."
        )
    if not torch.isfinite(image).all():
        raise ValueError("the picture holds NaN or infinity; look at the VAE that made it.")


def decode_riffusion(image: torch.Tensor, loop: bool, stereo: bool) -> torch.Tensor:
    """Pictures [B, 512, W, 3] -> sound [B, 1 or 2, W * 441] at 44.1 kHz, each with its loudest sample at 1.

    Riffusion reads mono from the red channel, left and right from green and blue.
    """
    count, _, width, _ = image.shape
    channels = image[..., 1:3] if stereo else image[..., :1]
    vocoder = GriffinLim(RIFFUSION).vocoder(0, width, BLOCK, comfy.model_management.get_torch_device())
    sound = torch.empty(count, channels.shape[-1], width * RIFFUSION.hop)
    for picture, out in zip(channels, sound, strict=True):
        mel = riffusion_mel(picture.movedim(-1, 0).float().cpu())
        for frame, piece in vocoder.pieces([mel], loop):
            comfy.model_management.throw_exception_if_processing_interrupted()
            at = (frame * RIFFUSION.hop + torch.arange(piece.shape[1])) % out.shape[1]
            out[:, at] = piece.cpu()
    return sound / sound.abs().amax(dim=(1, 2), keepdim=True).clamp_min(1e-8)


class SaFaRiffusionDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaRiffusionDecode",
            display_name=NAME,
            category=CATEGORY,
            description="Plays a picture by Riffusion, a Stable Diffusion 1.5 whose pictures are spectrograms: 512 "
            "pixels high, 100 pixels a second, as wide as you like. Phases by Griffin-Lim, loudest sample at 1.",
            search_aliases=["riffusion", "spectrogram to audio", "image to audio", "griffin-lim"],
            inputs=[
                io.Image.Input("image", tooltip="The picture, 512 pixels high; each of a batch is a sound of its own."),
                io.Boolean.Input("loop", default=False, tooltip="The right end flows into the left."),
                io.Boolean.Input(
                    "stereo", default=False, tooltip="Left and right from green and blue, for models trained so."
                ),
            ],
            outputs=[io.Audio.Output(display_name="audio", tooltip="44.1 kHz, 441 samples for each pixel column.")],
            has_intermediate_output=True,  # what it says is shown again when its result comes from the cache
        )

    @classmethod
    def execute(cls, image: torch.Tensor, loop: bool, stereo: bool = False) -> io.NodeOutput:
        with named(NAME):
            check(image, stereo)
        sound = decode_riffusion(image, loop, stereo)
        rate = RIFFUSION.sample_rate
        text = f"{sound.shape[-1] / rate:.6g} s at {rate} Hz ({sound.shape[-1]} samples)"
        if loop:
            text += ", loop"
        if (sound.abs().amax(dim=(1, 2)) == 0).any():
            text += "; warning: silence, the picture is white"
        show_text(text)
        audio = {"waveform": sound, "sample_rate": rate, "loop": loop}
        return io.NodeOutput(audio, ui=text_output(text))
