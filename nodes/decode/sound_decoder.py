"""Latents to sound by way of a mel spectrogram: in one, in windows, around loops, within the memory there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

import comfy.model_management
import comfy.utils

from ...safa_core import SwapJoin, TriangularJoin, ViewPlan, plan_views
from ...safa_core.sound.mel import GriffinLim, MelScale
from ...safa_core.sound.vocode import Differences, Vocoder, circular_convolutions, join_windows, scaled, vocoder_reach
from .spectrogram_picture import Spectrogram

FADE, SMALLEST = 32, 64  # latent columns over which windows of the VAE fade into each other, and of the least window
SILENCE = 1e-4  # peak below which a sound is called silent (-80 dB)
MEMORY_MARGIN = 1.5  # as the host: it runs what needs 1/1.5 of the free memory


@dataclass
class MelDecoder:
    """One decoding: a VAE with a mel spectrogram, and how the canvas is cut.

    vae:     as SaFa Audio Model Loader gives it. loop: the end flows into the start.
    joined:  views and join where windows are joined on the mel, else None.
    columns: latent columns that the VAE decodes at once.
    """

    vae: object
    loop: bool
    joined: tuple[ViewPlan, object] | None
    columns: int

    def __post_init__(self):
        vae = self.vae
        self.scale = MelScale(
            vae.audio_sample_rate, vae.mel_bins, vae.hop, vae.fmin, vae.fmax, vae.n_fft, vae.n_fft, vae.log
        )
        self.differences, self.peak = Differences(), 0.0

    def decode(self, latent: torch.Tensor, out: torch.Tensor) -> Spectrogram:
        """Latent [1, C, T, ...] into `out` [samples]; with less at once where memory runs out."""
        while True:
            try:
                return self._decode(latent, out)
            except RuntimeError as error:
                comfy.model_management.raise_non_oom(error)
                if self.joined or self.columns <= SMALLEST:
                    raise
            comfy.model_management.soft_empty_cache()
            self.differences = Differences()
            self.columns = max(SMALLEST, min(self.columns, latent.shape[self.vae.latent_axis]) // 2)

    def _decode(self, latent: torch.Tensor, out: torch.Tensor) -> Spectrogram:
        factor = self.vae.frames_per_column
        views, join = self.cut(latent.shape[self.vae.latent_axis])
        plan = scaled(views, factor)
        if isinstance(join, SwapJoin):
            join = replace(join, shift=join.shift * factor)
        weights = join.weights(plan, self.vae.mel_bins)
        origin, blocks = join_windows(plan, weights, self._windows(latent, views), self.differences)
        spectrum = Spectrogram(self.scale, plan.length)
        progress = comfy.utils.ProgressBar(plan.length)
        vocoder = self._vocoder(origin, plan.length)
        for frame, piece in vocoder.pieces(self._watched(blocks, spectrum, origin), self.loop):
            comfy.model_management.throw_exception_if_processing_interrupted()
            self._put(piece[0], out, (origin + frame) % plan.length * vocoder.hop)
            progress.update(piece.shape[1] // vocoder.hop)
        return spectrum

    def cut(self, length: int) -> tuple[ViewPlan, object]:
        """What is decoded by itself, in latent columns, and how it is joined on the mel."""
        if self.joined:
            return self.joined
        if self.columns >= length:
            return ViewPlan((0,), length, length, self.loop), TriangularJoin()
        return plan_views(length, self.columns, FADE / self.columns, self.loop), TriangularJoin()

    def _windows(self, latent: torch.Tensor, views: ViewPlan) -> Iterator[torch.Tensor]:
        """The views' mels [1, frames, bins]; a loop decoded in one runs its convolutions around the ring."""
        vae, axis = self.vae, self.vae.latent_axis
        ring = self.loop and len(views) == 1
        for i in range(len(views)):
            columns = views.indices(i).to(latent.device)
            around = circular_convolutions(vae.first_stage_model, axis - latent.ndim) if ring else nullcontext()
            with around:
                mel = vae.latent_to_mel(latent.index_select(axis, columns)).float().cpu()
            if not torch.isfinite(mel).all():
                raise ValueError(
                    "the VAE gave NaN or infinity for a latent without any; run it in float32 "
                    "(--fp32-vae), and check that it belongs to the latent."
                )
            yield mel

    def _watched(self, blocks, spectrum: Spectrogram, frame: int) -> Iterator[torch.Tensor]:
        for block in blocks:
            spectrum.add(block[0], frame)
            frame += block.shape[1]
            yield block

    def _vocoder(self, origin: int, length: int) -> Vocoder:
        vae = self.vae
        if vae.vocoder is None:
            return GriffinLim(self.scale).vocoder(origin, length, device=vae.device)
        hop, before, after = vocoder_reach(vae.vocoder)
        if hop != vae.hop:
            raise ValueError(
                f"the vocoder makes {hop} samples of a mel frame, but the model's frames are {vae.hop} "
                "samples apart; the folder holds the vocoder of another model."
            )
        return Vocoder(lambda mel, first: vae.mel_to_audio(mel), hop, before, after)

    def _put(self, piece: torch.Tensor, out: torch.Tensor, start: int) -> None:
        """Write samples from `start` on, around the ring."""
        piece = piece.float().cpu()
        peak = piece.abs().max().item()  # NaN where there is one
        if not peak < float("inf"):
            maker = "Griffin-Lim" if self.vae.vocoder is None else "the vocoder"
            raise ValueError(f"{maker} gave NaN or infinity for a mel spectrogram without any; try float32.")
        self.peak = max(self.peak, peak)
        straight = min(len(piece), len(out) - start)
        out[start : start + straight] = piece[:straight]
        out[: len(piece) - straight] = piece[straight:]

    def told(self, length: int, asked: bool) -> str:
        """How a canvas of `length` columns was decoded, for the node."""
        vae = self.vae
        second = vae.hop * vae.frames_per_column / vae.audio_sample_rate
        views, _ = self.cut(length)
        parts = []
        if len(views) == 1:
            how = "its convolutions around the loop, exact but for rounding" if self.loop else "as its library does"
            parts.append(f"the VAE decoded all at once, {how}")
        else:
            rms, largest = (
                self.scale.decibel(torch.tensor(d)).item() for d in (self.differences.rms, self.differences.largest)
            )
            why = "joined on the mel" if self.joined else "asked for" if asked else "for lack of memory"
            parts.append(
                f"the VAE decoded {len(views)} windows of {views.view * second:.4g} s one by one ({why}); where two "
                f"decoded the same columns they differ by {rms:.2g} dB rms, {largest:.2g} dB at most"
            )
        if vae.vocoder is None:
            parts.append("no vocoder: phases by Griffin-Lim")
        else:
            parts.append("the vocoder in pieces, the same samples as in one")
        return "; ".join(parts)


def decode_mel(vae, latent: torch.Tensor, loop: bool, joined=None, window: float = 0.0):
    """(sound [B, 1, frames * hop], one Spectrogram each, what to say) of a VAE with a mel spectrogram.

    window: seconds that the VAE decodes at once, 0 for all where memory allows.
    """
    length = latent.shape[vae.latent_axis]
    column = vae.hop * vae.frames_per_column
    asked = round(window * vae.audio_sample_rate / column)
    if window and asked < min(SMALLEST, length):
        raise ValueError(
            f"expected `window` of at least {SMALLEST * column / vae.audio_sample_rate:g} s, or 0 for "
            f"everything at once, got {window:g} s."
        )
    columns = _columns_at_once(vae, latent, joined, min(asked, length))
    decoder = MelDecoder(vae, loop, joined, columns)
    sound = torch.empty(len(latent), 1, length * column)
    spectra, said = [], []
    for one, out in zip(latent.split(1), sound[:, 0], strict=True):
        decoder.peak = 0.0
        spectra.append(decoder.decode(one, out))
        if decoder.peak < SILENCE:
            said.append(f"warning: silence (peak {decoder.peak:.1g})")
    return sound, spectra, [decoder.told(length, window > 0), *dict.fromkeys(said)]


def _columns_at_once(vae, latent: torch.Tensor, joined, asked: int) -> int:
    """Latent columns that fit into the free memory, or as many as asked for; refuses what cannot be decoded."""
    manage, axis = comfy.model_management, vae.latent_axis
    length = latent.shape[axis]

    def need(columns: int) -> float:
        shape = [1, *latent.shape[1:]]
        shape[axis] = columns
        return vae.memory_used_decode(shape, vae.vae_dtype) * MEMORY_MARGIN

    least = joined[0].view if joined else asked or min(length, SMALLEST)
    vae.load(need(length if not asked and not joined else least))
    sound = 4 * len(latent) * length * vae.frames_per_column * vae.hop
    free, memory = manage.get_free_memory(vae.device), manage.get_free_memory(torch.device("cpu"))
    if vae.device.type == "cpu":
        free = memory = memory - sound
        short = free < need(least)
    else:
        short = memory < sound or free < need(least)
    if short:
        seconds = length * vae.frames_per_column * vae.hop / vae.audio_sample_rate
        raise ValueError(
            f"{len(latent)} × {seconds:.4g} s of sound take {sound / 2**20:.0f} MB and decoding the shortest "
            f"stretch {need(least) / 2**20:.0f} MB more, but {max(0, memory) / 2**20:.0f} MB of memory are free (on "
            f"{vae.device}: {max(0, free) / 2**20:.0f} MB); free some, or decode a shorter latent."
        )
    if asked or joined or need(length) <= free:
        return least if asked else length
    return max(SMALLEST, int(free / need(length) * length))
