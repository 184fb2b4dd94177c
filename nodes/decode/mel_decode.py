"""Mel Decode: latents to sound of any length, around loops, and its spectrogram."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from comfy_api.latest import io, ui

from ...safa_core import Join, SwapJoin
from ..canvas import Canvas, check_single
from ..errors import named
from ..mel_vae import check_vae, mel_vae
from ..node_text import show_preview
from ..sockets import CATEGORY, SaFaJoin, SaFaPlan
from .level import LEVELS, levelled
from .loop_decode import decode_loop
from .sound_decoder import SILENCE, decode_mel
from .spectrogram_picture import Spectrogram, audio_spectrogram, spectrogram_picture

NAME = "Mel Decode"


def decode_sound(
    vae: Any, latent: torch.Tensor, canvas: Canvas | None
) -> tuple[torch.Tensor, list[Spectrogram], list[str]]:
    """Decode with one of the host's own VAEs, which makes sound itself.

    Returns (sound [B, channels, samples], a Spectrogram of each, lines on how it was decoded).
    """
    if canvas is not None and canvas.plan.loop:
        sound, text = decode_loop(vae, latent, canvas.axis_in(latent) - latent.ndim, "sound")
    else:
        sound = vae.decode(latent)
        text = "decoded as VAE Decode Audio does"
    sound = sound.movedim(-1, 1).float().cpu()
    if not torch.isfinite(sound).all():
        raise ValueError("the VAE gave NaN or infinity; run it in float32 (--fp32-vae).")
    lines = [text]
    loudness = (5 * sound.std(dim=(1, 2), keepdim=True)).clamp_min(1.0)
    if (loudness > 1).any():
        lines.append("one loudness for the whole clip, VAE Decode Audio's")
    sound = sound / loudness
    quietest = sound.abs().amax(dim=(1, 2)).min().item()
    if quietest < SILENCE:
        lines.append(f"warning: silence (peak {quietest:.1g})")
    return sound, [audio_spectrogram(clip, _rate(vae)) for clip in sound], lines


def _rate(vae: Any) -> int:
    """Samples per second of the sound that a VAE decodes to."""
    return int(getattr(vae, "audio_sample_rate_output", vae.audio_sample_rate))


def check(vae: Any, latent: dict, canvas: Canvas | None, join_at: str) -> None:
    """Refuse what cannot be decoded, before anything is (ValueError)."""
    samples = latent["samples"]
    if canvas is not None:
        canvas.check(samples)
    check_single(samples)
    check_vae(vae, "sound")
    if not samples.numel():
        raise ValueError(f"the latent {list(samples.shape)} is empty; there is nothing to hear.")
    _check_shape(vae, samples)
    if not torch.isfinite(samples).all():
        raise ValueError("the latent holds NaN or infinity; look at the sampler that made it.")
    if latent.get("sample_rate", _rate(vae)) != _rate(vae):
        raise ValueError(
            f"the latent was made for {latent['sample_rate']} Hz, but this VAE decodes to {_rate(vae)} Hz; connect the "
            "VAE of the model that made the latent."
        )
    if join_at == "mel" and mel_vae(vae) is None:
        raise ValueError("expected a VAE with a mel spectrogram, for `join_at` mel; connect one or choose latent.")
    if join_at == "mel" and canvas is None:
        raise ValueError(
            "expected a plan, whose views are decoded one by one, for `join_at` mel; connect one or choose latent."
        )


def _check_shape(vae: Any, samples: torch.Tensor) -> None:
    """Refuse a latent whose channels, dimensions or rows are not this VAE's (ValueError)."""
    shape = list(samples.shape)
    wanted = _wanted_shape(vae)
    fits = samples.ndim == len(wanted) and shape[1] == vae.latent_channels
    if fits and mel_vae(vae) is not None:
        fits = shape[3:] == wanted[3:]
    if not fits:
        raise ValueError(
            f"expected a latent [{', '.join(map(str, wanted))}] for this VAE, got {shape}; connect the VAE of the "
            "model that made it."
        )


def _wanted_shape(vae: Any) -> list[str | int]:
    """The shape of a latent that this VAE decodes, with words for sizes that are free."""
    channels = vae.latent_channels
    if mel_vae(vae) is None:
        if vae.latent_dim == 1:
            return ["batch", channels, "time"]
        return ["batch", channels, vae.extra_1d_channel or "rows", "time"]
    kinds = [type(m) for m in vae.first_stage_model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d))]
    if issubclass(kinds[0], nn.Conv1d):
        return ["batch", channels, "time"]
    return ["batch", channels, "time", vae.mel_bins // vae.frames_per_column]


class SaFaMelDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaMelDecode",
            display_name=NAME,
            category=CATEGORY,
            description="Decodes sound of any length, and its spectrogram. A loop comes out exactly as long as its "
            "latent, and its end flows into its start. The vocoder runs in pieces that give the same samples as in "
            "one; there is no change of loudness between them.",
            search_aliases=["audio decode", "latent to audio", "vocoder", "spectrogram", "griffin-lim", "loop audio"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the model that made the latent, for sound."),
                io.Latent.Input("latent", tooltip="The sound to decode, one or more of one length."),
                SaFaPlan.Input(
                    "plan",
                    optional=True,
                    tooltip="The plan of the canvas. With a loop the end flows into the start; without a plan the "
                    "latent is decoded as one clip.",
                ),
                io.Boolean.Input(
                    "marks", default=False, optional=True, tooltip="Mark the plan's views and overlaps in the picture."
                ),
                io.Float.Input(
                    "window",
                    default=0.0,
                    min=0.0,
                    max=100000.0,
                    step=1.0,
                    round=0.001,
                    optional=True,
                    advanced=True,
                    tooltip="Seconds that the VAE decodes at a time, at least 2.56 for AudioLDM. 0 = everything where "
                    "memory allows, which alone is exact. The node says how much windows differ.",
                ),
                io.Combo.Input(
                    "join_at",
                    options=["latent", "mel"],
                    default="latent",
                    optional=True,
                    advanced=True,
                    tooltip="latent: the canvas is decoded as it is. mel: every view of the plan is decoded by itself "
                    "and joined on the mel spectrogram (SaFa+, for 1-D VAEs such as Make-An-Audio 2's).",
                ),
                SaFaJoin.Input(
                    "join",
                    optional=True,
                    tooltip="How views are joined on the mel spectrogram, for `join_at` mel: its interval counts mel "
                    "frames, its shift latent columns. Not connected: Self-Loop Swap, interval 1.",
                ),
                io.Combo.Input(
                    "level",
                    options=list(LEVELS),
                    default="limit",
                    optional=True,
                    advanced=True,
                    tooltip="One gain for the whole sound. limit: where its loudest sample lies beyond ±1, which files "
                    "clip. normalise: always, the loudest sample at 0.99. leave: as the model made it.",
                ),
            ],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="Mel frames × hop samples, no more and no less."),
                io.Image.Output(
                    display_name="spectrogram",
                    tooltip="Its spectrogram: time in seconds, frequency in Hz, level in dB.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],  # its picture, dropped on the page, opens the workflow
            has_intermediate_output=True,  # what it says is shown again when its result comes from the cache
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        latent: dict,
        plan: Canvas | None = None,
        marks: bool = False,
        window: float = 0.0,
        join_at: str = "latent",
        join: Join | None = None,
        level: str = "limit",
    ) -> io.NodeOutput:
        canvas = plan
        samples = latent["samples"]
        loop = canvas is not None and canvas.plan.loop
        with named(NAME):
            check(vae, latent, canvas, join_at)
            if mel_vae(vae) is None:
                sound, spectra, lines = decode_sound(vae, samples, canvas)
            else:
                joined = None
                if canvas is not None and join_at == "mel":
                    joined = (canvas.plan, join or SwapJoin())
                sound, spectra, lines = decode_mel(vae, samples, loop, joined, window)
        sound, gained = levelled(sound, level)
        lines += gained
        rate = _rate(vae)
        title = f"{sound.shape[-1] / rate:.6g} s at {rate} Hz ({sound.shape[-1]} samples)"
        if loop:
            title += ", loop"
        views = canvas.plan if canvas is not None and marks else None
        column = 0.0 if views is None else sound.shape[-1] / rate / views.length
        picture = torch.cat([spectrogram_picture(spectrum, title, views, column) for spectrum in spectra])
        text = "\n".join([title, *lines])  # the page breaks long lines within words
        audio = {"waveform": sound, "sample_rate": rate}
        if canvas is not None:
            audio["loop"] = loop  # Save Loop writes no loop points for a sound that is known to be none
        # by a name of the pack's own: the host plays `audio` on nodes with a player of its own alone
        preview = show_preview(cls, picture, text)
        preview["safa_audio"] = ui.PreviewAudio(audio).as_dict()["audio"]
        return io.NodeOutput(audio, picture, ui=preview)
