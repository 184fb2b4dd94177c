"""Latents to sound by way of a mel spectrogram: whole or in windows, around loops, within the free memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

import comfy.model_management
import comfy.utils

from ...safa_core import Join, SwapJoin, TriangularJoin, ViewPlan, plan_views
from ...safa_core.sound.mel import GriffinLim, MelScale
from ...safa_core.sound.vocode import Differences, Vocoder, circular_convolutions, join_windows, scaled, vocoder_reach
from ..mel_vae import MelVAE
from .spectrogram_picture import Spectrogram

SMALLEST = 64  # latent columns of the least window that the VAE decodes
FADE = 32  # latent columns over which such windows fade into each other
SILENCE = 1e-4  # peak below which a sound is called silent (-80 dB)
MEMORY_MARGIN = 1.5  # as the host: it runs what needs 1/1.5 of the free memory


@dataclass
class MelDecoder:
    """A VAE that makes mel spectrograms, and how it decodes a canvas.

    loop:    the end flows into the start.
    joined:  views and join where every view is decoded by itself and joined on the mel, else None.
    columns: latent columns that the VAE decodes together.
    peak:    of the sound decoded last. differences: of windows where they overlap.
    held:    places of the mel that would have been louder than the model's training.
    """

    vae: MelVAE
    loop: bool
    joined: tuple[ViewPlan, Join] | None
    columns: int

    def __post_init__(self) -> None:
        vae = self.vae
        self.scale = MelScale(
            vae.audio_sample_rate, vae.mel_bins, vae.hop, vae.fmin, vae.fmax, vae.n_fft, vae.n_fft, vae.log
        )
        self.differences = Differences()
        self.peak = 0.0
        self.held = 0

    def decode(self, latent: torch.Tensor, out: torch.Tensor) -> Spectrogram:
        """Latent [1, C, T, ...] into `out` [samples]; in smaller windows where memory runs out."""
        self.peak = 0.0
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
        for frame, piece in vocoder.pieces(self._record(blocks, spectrum, origin), self.loop):
            comfy.model_management.throw_exception_if_processing_interrupted()
            self._write(piece[0], out, (origin + frame) % plan.length * vocoder.hop)
            progress.update(piece.shape[1] // vocoder.hop)
        return spectrum

    def cut(self, length: int) -> tuple[ViewPlan, Join]:
        """The windows that are decoded one by one, in latent columns, and how they are joined on the mel."""
        if self.joined:
            return self.joined
        if self.columns >= length:
            return ViewPlan((0,), length, length, self.loop), TriangularJoin()
        return plan_views(length, self.columns, FADE / self.columns, self.loop), TriangularJoin()

    def _windows(self, latent: torch.Tensor, views: ViewPlan) -> Iterator[torch.Tensor]:
        """The windows' mels [1, frames, bins]; the convolutions of a single one run around a loop."""
        vae = self.vae
        axis = vae.latent_axis
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
            if vae.loudest is not None:
                self.held += int((mel >= vae.loudest).sum())
            yield mel

    def _record(self, blocks: Iterator[torch.Tensor], spectrum: Spectrogram, frame: int) -> Iterator[torch.Tensor]:
        """Mel blocks [1, n, bins] from frame `frame` on, each added to the spectrogram as it passes."""
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

    def _write(self, piece: torch.Tensor, out: torch.Tensor, start: int) -> None:
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

    def describe(self, length: int, window: bool) -> str:
        """How a canvas of `length` columns was decoded, for the node. window: the user set the length of a window."""
        vae = self.vae
        second = vae.hop * vae.frames_per_column / vae.audio_sample_rate
        views, _ = self.cut(length)
        parts = []
        if len(views) == 1:
            how = "its convolutions around the loop, exact but for rounding" if self.loop else "as its library does"
            parts.append(f"the VAE decoded all at once, {how}")
        else:
            rms = self.scale.decibel(torch.tensor(self.differences.rms)).item()
            largest = self.scale.decibel(torch.tensor(self.differences.largest)).item()
            if self.joined:
                why = "joined on the mel"
            else:
                why = "asked for" if window else "for lack of memory"
            parts.append(
                f"the VAE decoded {len(views)} windows of {views.view * second:.4g} s one by one ({why}); where two "
                f"decoded the same columns they differ by {rms:.2g} dB rms, {largest:.2g} dB at most"
            )
        if vae.vocoder is None:
            parts.append("no vocoder: phases by Griffin-Lim")
        else:
            parts.append("the vocoder in pieces, the same samples as in one")
        return "; ".join(parts)


def decode_mel(
    vae: MelVAE,
    latent: torch.Tensor,
    loop: bool,
    joined: tuple[ViewPlan, Join] | None = None,
    window: float = 0.0,
) -> tuple[torch.Tensor, list[Spectrogram], list[str]]:
    """Decode latents [B, C, T, ...] by way of a mel spectrogram; refuses what does not fit into memory (ValueError).

    joined: views and join, to decode every view by itself and join them on the mel.
    window: seconds that the VAE decodes together, 0 for all where memory allows.
    Returns (sound [B, 1, frames * hop], a Spectrogram of each, lines on how it was decoded).
    """
    length = latent.shape[vae.latent_axis]
    column = vae.hop * vae.frames_per_column
    window_columns = round(window * vae.audio_sample_rate / column)
    if window and window_columns < min(SMALLEST, length):
        raise ValueError(
            f"expected `window` of at least {SMALLEST * column / vae.audio_sample_rate:g} s, or 0 for everything at "
            f"once, got {window:g} s."
        )
    columns = _fit_columns(vae, latent, joined, min(window_columns, length))
    decoder = MelDecoder(vae, loop, joined, columns)
    sound = torch.empty(len(latent), 1, length * column)
    spectra = []
    warnings = []
    for clip, out in zip(latent.split(1), sound[:, 0], strict=True):
        spectra.append(decoder.decode(clip, out))
        if decoder.peak < SILENCE:
            warnings.append(f"warning: silence (peak {decoder.peak:.1g})")
    lines = [decoder.describe(length, window > 0)]
    if decoder.held:
        lines.append(f"{decoder.held} places of the mel held at the loudest of the model's training")
    return sound, spectra, [*lines, *dict.fromkeys(warnings)]


def _fit_columns(vae: MelVAE, latent: torch.Tensor, joined: tuple[ViewPlan, Join] | None, window: int) -> int:
    """Latent columns to decode together: `window` where that is not 0, else as many as memory allows (ValueError)."""
    axis = vae.latent_axis
    length = latent.shape[axis]

    def need(columns: int) -> float:
        shape = [1, *latent.shape[1:]]
        shape[axis] = columns
        return vae.memory_used_decode(shape, vae.vae_dtype) * MEMORY_MARGIN

    whole = not window and not joined
    least = joined[0].view if joined else window or min(length, SMALLEST)
    vae.load(need(length if whole else least))
    free = _free_memory(vae, latent, need(least))
    if window:
        return least
    if joined or need(length) <= free:
        return length
    return max(SMALLEST, int(free / need(length) * length))


def _free_memory(vae: MelVAE, latent: torch.Tensor, least: float) -> float:
    """Bytes to decode in, beside the finished sound; refuses less than `least` (ValueError)."""
    samples = latent.shape[vae.latent_axis] * vae.frames_per_column * vae.hop
    sound = 4 * len(latent) * samples
    free = comfy.model_management.get_free_memory(vae.device)
    memory = comfy.model_management.get_free_memory(torch.device("cpu"))
    if vae.device.type == "cpu":
        free = memory = memory - sound
        short = free < least
    else:
        short = memory < sound or free < least
    if short:
        raise ValueError(
            f"{len(latent)} × {samples / vae.audio_sample_rate:.4g} s of sound take {sound / 2**20:.0f} MB and decoding"
            f" the shortest stretch {least / 2**20:.0f} MB more, but {max(0, memory) / 2**20:.0f} MB of memory are free"
            f" (on {vae.device}: {max(0, free) / 2**20:.0f} MB); free some, or decode a shorter latent."
        )
    return free
