"""Mel Decode: latents to sound by way of a mel spectrogram, as long as one likes and around loops."""

from __future__ import annotations

import torch

from comfy_api.latest import io, ui

from ...safa_core import SwapJoin
from ..canvas import Canvas
from ..node_text import show_text
from ..sockets import CATEGORY, SaFaJoin, SaFaPlan
from .loop_decode import decode_loop
from .sound_decoder import NAME, SILENCE, decode_mel
from .spectrogram_picture import audio_spectrogram, spectrogram_picture


def decode_host(vae, latent: torch.Tensor, canvas: Canvas | None):
    """The same of one of the host's own VAEs, which decodes to sound itself: (sound [B, C, samples], spectra, said)."""
    if canvas is not None and canvas.plan.loop:
        sound, text = decode_loop(vae, latent, canvas.axis_in(latent) - latent.ndim)
        text = text.replace("picture", "sound")
    else:
        sound, text = vae.decode(latent), "decoded as VAE Decode Audio does"
    sound = sound.movedim(-1, 1).float().cpu()
    if not torch.isfinite(sound).all():
        raise ValueError(f"{NAME}: the VAE gave NaN or infinity; run it in float32 (--fp32-vae).")
    loud = (5 * sound.std(dim=(1, 2), keepdim=True)).clamp_min(1.0)
    said = [text, *(["one loudness for the whole clip, VAE Decode Audio's"] if (loud > 1).any() else [])]
    sound = sound / loud
    quiet = sound.abs().amax(dim=(1, 2)).min().item()
    if quiet < SILENCE:
        said.append(f"warning: silence (peak {quiet:.1g})")
    return sound, [audio_spectrogram(one, _rate(vae)) for one in sound], said


def _rate(vae) -> int:
    return int(getattr(vae, "audio_sample_rate_output", vae.audio_sample_rate))


def _has_mel(vae) -> bool:
    return hasattr(vae, "latent_to_mel")


def _check(vae, latent: dict, canvas: Canvas | None, join_at: str) -> None:
    """Refuse before anything is decoded (ValueError)."""
    samples = latent["samples"]
    if canvas is not None:
        canvas.check(samples, NAME)
    if samples.is_nested:
        raise ValueError(f"{NAME}: expected one latent, got a pack of several (audio with video); split it first.")
    if not _has_mel(vae):
        vae.throw_exception_if_invalid()
        if vae.latent_dim != 1 and vae.extra_1d_channel is None:
            raise ValueError(f"{NAME}: expected a VAE for sound, got one for pictures; decode them with VAE Decode.")
    if not samples.numel():
        raise ValueError(f"{NAME}: the latent {list(samples.shape)} is empty; there is nothing to hear.")
    _check_family(vae, samples)
    if not torch.isfinite(samples).all():
        raise ValueError(f"{NAME}: the latent holds NaN or infinity; look at the sampler that made it.")
    if latent.get("sample_rate", _rate(vae)) != _rate(vae):
        raise ValueError(
            f"{NAME}: the latent was made for {latent['sample_rate']} Hz, but this VAE decodes to {_rate(vae)} Hz; "
            "connect the VAE of the model that made the latent."
        )
    if join_at == "mel" and not (_has_mel(vae) and canvas is not None):
        what = "a plan, whose views are decoded one by one" if _has_mel(vae) else "a VAE with a mel spectrogram"
        raise ValueError(f"{NAME}: expected {what}, for `join_at` mel; connect one or choose latent.")


def _check_family(vae, samples: torch.Tensor) -> None:
    shape = list(samples.shape)
    if not _has_mel(vae):
        rows = vae.extra_1d_channel
        fits = shape[1] == vae.latent_channels and samples.ndim == (3 if rows is None else 4)
        wanted = f"[batch, {vae.latent_channels}, {'' if rows is None else f'{rows}, '}time]"
    else:
        decoder = next(m for m in vae.first_stage_model.modules() if isinstance(m, (torch.nn.Conv1d, torch.nn.Conv2d)))
        flat, rows = isinstance(decoder, torch.nn.Conv1d), vae.mel_bins // vae.frames_per_column
        fits = shape[1] == vae.latent_channels and samples.ndim == (3 if flat else 4) and (flat or shape[3] == rows)
        wanted = f"[batch, {vae.latent_channels}, time{'' if flat else f', {rows}'}]"
    if not fits:
        raise ValueError(
            f"{NAME}: expected a latent {wanted} for this VAE, got {shape}; connect the VAE of the model that made it."
        )


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
                    tooltip="Seconds that the VAE decodes at once, at least 2.56 for AudioLDM. 0 = everything where "
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
            ],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="Mel frames × hop samples, no more and no less."),
                io.Image.Output(display_name="spectrogram", tooltip="Time in seconds, frequency in Hz, dB."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, vae, latent, plan: Canvas | None = None, marks=False, window=0.0, join_at="latent", join=None
    ) -> io.NodeOutput:
        canvas = plan
        _check(vae, latent, canvas, join_at)
        samples = latent["samples"]
        if _has_mel(vae):
            joined = (canvas.plan, join or SwapJoin()) if join_at == "mel" else None
            loop = canvas is not None and canvas.plan.loop
            try:
                sound, spectra, said = decode_mel(vae, samples, loop, joined, window)
            except ValueError as error:
                raise ValueError(str(error) if str(error).startswith(NAME) else f"{NAME}: {error}") from error
        else:
            sound, spectra, said = decode_host(vae, samples, canvas)
        rate = _rate(vae)
        title = f"{sound.shape[-1] / rate:.6g} s at {rate} Hz ({sound.shape[-1]} samples)"
        title += ", loop" if canvas is not None and canvas.plan.loop else ""
        views = canvas.plan if canvas is not None and marks else None
        column = 0.0 if views is None else sound.shape[-1] / rate / views.length
        picture = torch.cat([spectrogram_picture(spectrum, title, views, column) for spectrum in spectra])
        text = "\n".join([title, *said])  # the page breaks long lines within words
        show_text(cls.hidden, text)
        shown = {**ui.PreviewImage(picture, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
        return io.NodeOutput({"waveform": sound, "sample_rate": rate}, picture, ui=shown)
