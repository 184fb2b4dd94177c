"""Roll by Half: moves the seam of a loop into the middle, to be heard or seen there, and scores it."""

from __future__ import annotations

from typing import Any

import torch

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ...safa_core.measures.seam import picture_seam, roll_half, sound_seam
from ..decode.level import levelled
from ..decode.spectrogram_picture import audio_spectrogram, spectrogram_picture
from ..errors import named
from ..node_text import show_preview
from ..sockets import CATEGORY

NAME = "Roll by Half (Seam Check)"
AXES = {"height": 1, "width": 2}  # dimensions of an IMAGE [B, H, W, C]


def check_sound(audio: dict) -> tuple[torch.Tensor, int]:
    """(waveform [B, channels, samples], rate in Hz) of an AUDIO; refuses what is none (ValueError)."""
    waveform = audio["waveform"]
    rate = int(audio["sample_rate"])
    if waveform.ndim != 3 or not waveform.numel() or rate < 1:
        raise ValueError(
            f"expected audio [batch, channels, samples], got {list(waveform.shape)} at {rate} Hz; look at the "
            "node that made it."
        )
    if not torch.isfinite(waveform).all():
        raise ValueError("the audio holds NaN or infinity; look at the node that made it.")
    return waveform, rate


def roll_sound(audio: dict) -> tuple[dict, torch.Tensor, float, str]:
    """(rolled audio, its spectrogram, score, line of text)."""
    waveform, rate = check_sound(audio)
    seam = sound_seam(waveform, rate)
    rolled = roll_half(waveform, 2)
    middle = waveform.shape[-1] // 2 / rate
    info = (
        f"seam at {middle:.5g} s, score {seam.score:.3g} (1 or less: no seam); jump of the waveform {seam.click:.3g}, "
        f"change of the spectrum {seam.change:.3g}"
    )
    picture = torch.cat([spectrogram_picture(audio_spectrogram(clip.cpu(), rate), info) for clip in rolled])
    return {**audio, "waveform": rolled}, picture, seam.score, info


def roll_picture(image: torch.Tensor, axis: str) -> tuple[torch.Tensor, float, str]:
    """(rolled picture, score, line of text)."""
    if not torch.isfinite(image).all():
        raise ValueError("the picture holds NaN or infinity; look at the node that made it.")
    if axis == "auto":
        axis = "width" if image.shape[2] >= image.shape[1] else "height"
    score = picture_seam(image, AXES[axis])
    place = f"{'column' if axis == 'width' else 'row'} {image.shape[AXES[axis]] // 2}"
    return roll_half(image, AXES[axis]), score, f"seam at {place}, score {score:.3g} (1 or less: no seam)"


def roll(
    axis: str, audio: dict | None, image: torch.Tensor | None
) -> tuple[dict | ExecutionBlocker, torch.Tensor, float, str]:
    """(rolled audio, picture, score, line of text) of a sound, or of a picture, after which no audio node runs."""
    if (audio is None) == (image is None):
        raise ValueError(f"expected audio or an image, got {'neither' if audio is None else 'both'}.")
    if audio is not None:
        return roll_sound(audio)
    picture, score, info = roll_picture(image, axis)
    return ExecutionBlocker(None), picture, score, info


class SaFaRollHalf(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaRollHalf",
            display_name=NAME,
            category=CATEGORY,
            description="Moves the seam of a loop into the middle, to be heard or seen there, and scores it: how much "
            "the sound or picture changes at the seam against its surroundings. 1 or less is no seam.",
            search_aliases=["seam score", "loop check", "tile check", "offset image", "roll audio", "seamless"],
            inputs=[
                io.Combo.Input(
                    "axis",
                    options=["auto", "width", "height"],
                    default="auto",
                    tooltip="Along which side a picture loops; auto takes the longer one. Sound loops in time.",
                ),
                io.Audio.Input(
                    "audio", optional=True, tooltip="A looping sound of mono, stereo or more channels. Or an image."
                ),
                io.Image.Input("image", optional=True, tooltip="A looping picture, one or more. Or audio."),
                io.Custom("AUDIO_UI").Input("audioUI", optional=True, tooltip="Plays the rolled sound."),
            ],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="The sound, rolled; nothing runs on it for a picture."),
                io.Image.Output(display_name="image", tooltip="The rolled picture, or the rolled sound's spectrogram."),
                io.Float.Output(display_name="score", tooltip="1 or less: no seam. 2: twice the change beside it."),
                io.String.Output(display_name="info", tooltip="Where the seam is, and its score."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, axis: str, audio: dict | None = None, image: torch.Tensor | None = None, audioUI: Any = None
    ) -> io.NodeOutput:
        with named(NAME):
            rolled, picture, score, info = roll(axis, audio, image)
        preview = show_preview(cls, picture, info, info.replace("; ", "\n"))  # the page breaks long lines within words
        if audio is not None:
            heard, _ = levelled(rolled["waveform"], "limit")  # the file of the player has 16 bits
            preview |= ui.PreviewAudio({**rolled, "waveform": heard}, cls=cls).as_dict()
            preview["safa_audio"] = preview["audio"]
        return io.NodeOutput(rolled, picture, score, info, ui=preview)
