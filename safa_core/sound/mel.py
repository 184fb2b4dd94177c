"""Mel spectrograms and the way back to sound without a vocoder (Griffin-Lim)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .vocode import Vocoder

ITERATIONS = 32
MOMENTUM = 0.99
LOG_FLOOR = 1e-5  # AudioLDM's: log(clamp(mel, 1e-5))
PHASES = 1024  # frames after which the random first phases repeat


def hz_to_mel(hz: torch.Tensor, scale: str = "slaney") -> torch.Tensor:
    """Frequencies in Hz on the mel scale: "htk", or Slaney's, linear to 1 kHz and logarithmic above."""
    if scale == "htk":
        return 2595 * torch.log10(1 + hz / 700)
    return torch.where(hz < 1000, hz * 3 / 200, 15 + 27 * torch.log(hz.clamp_min(1000) / 1000) / math.log(6.4))


def mel_to_hz(mel: torch.Tensor, scale: str = "slaney") -> torch.Tensor:
    """The inverse of `hz_to_mel`, in Hz."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))


def mel_filterbank(
    sample_rate: int, n_fft: int, bins: int, fmin: float, fmax: float, scale: str = "slaney", area: bool = True
) -> torch.Tensor:
    """Triangles over the STFT's frequencies: [bins, n_fft // 2 + 1], float32.

    sample_rate, fmin, fmax: in Hz. area: each triangle has area 1 (Slaney's norm) instead of height 1.
    """
    edges = torch.tensor([fmin, fmax], dtype=torch.float64)
    low, high = hz_to_mel(edges, scale).tolist()
    corners = mel_to_hz(torch.linspace(low, high, bins + 2, dtype=torch.float64), scale)
    hz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = torch.minimum((hz - left) / (centre - left), (right - hz) / (right - centre)).clamp_min(0)
    return (triangles * 2 / (right - left) if area else triangles).float()


@dataclass(frozen=True)
class MelScale:
    """How a family's mel spectrograms are made of STFT magnitudes.

    sample_rate, fmin, fmax in Hz; n_fft, window (Hann) and hop in samples. scale: "slaney" or "htk". area: Slaney's
    norm. log: "ln" or "log10" of the magnitudes, "" for the magnitudes themselves.
    """

    sample_rate: int
    bins: int
    hop: int
    fmin: float
    fmax: float
    n_fft: int = 1024
    window: int = 1024
    log: str = "ln"
    scale: str = "slaney"
    area: bool = True

    def filterbank(self) -> torch.Tensor:
        """[bins, n_fft // 2 + 1]."""
        return mel_filterbank(self.sample_rate, self.n_fft, self.bins, self.fmin, self.fmax, self.scale, self.area)

    def spectrogram(self, audio: torch.Tensor) -> torch.Tensor:
        """Sound [B, n * hop] to mel [B, n, bins], with silence before and after the sound."""
        mel = self.filterbank().to(audio) @ stft(audio, self).abs()
        return self._logarithm(mel).transpose(1, 2)

    def decibel(self, mel: torch.Tensor) -> torch.Tensor:
        """Amplitudes in dB; 0 dB is a magnitude of 1."""
        if not self.log:
            return 20 * torch.log10(mel.clamp_min(LOG_FLOOR))
        return mel * (20 if self.log == "log10" else 20 / math.log(10))

    def magnitude(self, mel: torch.Tensor) -> torch.Tensor:
        """Mel [B, n, bins] without its logarithm."""
        if not self.log:
            return mel
        return torch.exp(mel) if self.log == "ln" else 10**mel

    def _logarithm(self, mel: torch.Tensor) -> torch.Tensor:
        if not self.log:
            return mel
        return (torch.log if self.log == "ln" else torch.log10)(mel.clamp_min(LOG_FLOOR))


def stft(audio: torch.Tensor, scale: MelScale) -> torch.Tensor:
    """[B, n * hop] -> [B, n_fft // 2 + 1, n], complex; frame t is centred on sample t * hop."""
    before, after = _margins(scale)
    padded = torch.nn.functional.pad(audio, (before, after))
    window = torch.hann_window(scale.window).to(audio)
    return torch.stft(
        padded, scale.n_fft, scale.hop, scale.window, window, center=False, return_complex=True, onesided=True
    )


def istft(spectrum: torch.Tensor, scale: MelScale) -> torch.Tensor:
    """The least-squares inverse of `stft` (Griffin and Lim, 1984, Eq. 6): [B, n_fft // 2 + 1, n] -> [B, n * hop]."""
    count = spectrum.shape[-1]
    before, _ = _margins(scale)
    side = (scale.n_fft - scale.window) // 2
    window = torch.hann_window(scale.window, device=spectrum.device, dtype=spectrum.real.dtype)
    frames = torch.fft.irfft(spectrum, scale.n_fft, dim=1)[:, side : side + scale.window] * window[:, None]
    square = window.square()[:, None].expand(1, -1, count)
    length = (count - 1) * scale.hop + scale.window

    def overlap_add(pieces: torch.Tensor) -> torch.Tensor:
        size = {"output_size": (1, length), "kernel_size": (1, scale.window), "stride": (1, scale.hop)}
        return torch.nn.functional.fold(pieces, **size).reshape(len(pieces), length)

    start = before - side
    return (overlap_add(frames) / overlap_add(square).clamp_min(1e-8))[:, start : start + count * scale.hop]


def _margins(scale: MelScale) -> tuple[int, int]:
    """Samples of silence before and after, so that n hops give n frames."""
    before = scale.n_fft // 2
    return before, scale.n_fft - scale.hop - before


class GriffinLim:
    """Phases for magnitudes, by the fast Griffin-Lim algorithm (Perraudin et al., 2013).

    The first phases are random, drawn once for every frame of the canvas (the same on every machine), so that a piece
    that is given `reach` frames of context sounds as the whole does, and a ring closes.
    """

    def __init__(self, scale: MelScale, iterations: int = ITERATIONS, momentum: float = MOMENTUM):
        self.scale = scale
        self.iterations = iterations
        self.momentum = momentum / (1 + momentum)
        # least squares of minimal norm, as torchaudio's InverseMelScale; negative magnitudes become 0
        bank = scale.filterbank().double()
        self._inverse = (bank.T @ torch.linalg.pinv(bank @ bank.T, hermitian=True)).float()
        generator = torch.Generator().manual_seed(0)
        self._phases = torch.rand(scale.n_fft // 2 + 1, PHASES, generator=generator) * 2 * math.pi

    @property
    def reach(self) -> int:
        """Frames that one frame's sound depends on, on either side: one window each iteration and one at the end."""
        return (self.iterations + 1) * math.ceil(self.scale.window / self.scale.hop)

    def linear(self, mel: torch.Tensor) -> torch.Tensor:
        """Mel [B, n, bins] -> STFT magnitudes [B, n_fft // 2 + 1, n]."""
        return torch.relu(self._inverse.to(mel) @ self.scale.magnitude(mel).transpose(1, 2))

    def __call__(self, mel: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Mel [B, n, bins] of the canvas frames `frames` [n] -> sound [B, n * hop]."""
        magnitude = self.linear(mel)
        phases = self._phases.to(mel)[:, frames % PHASES]
        angles = torch.polar(torch.ones_like(phases), phases).expand_as(magnitude)
        previous = 0.0
        for _ in range(self.iterations):
            rebuilt = stft(istft(magnitude * angles, self.scale), self.scale)
            angles = rebuilt - self.momentum * previous
            angles = angles / angles.abs().clamp_min(1e-16)
            previous = rebuilt
        return istft(magnitude * angles, self.scale)

    def vocoder(self, origin: int, length: int, block: int = 2048, device: torch.device | None = None) -> Vocoder:
        """A Vocoder for a canvas of `length` frames whose mel arrives from frame `origin` on, around the ring.

        block: frames that get their phases together, besides their context.
        """

        def synthesise(mel: torch.Tensor, first: int) -> torch.Tensor:
            return self(mel.to(device), (origin + first + torch.arange(mel.shape[1])) % length)

        return Vocoder(synthesise, self.scale.hop, self.reach, self.reach, block)


# Riffusion's pictures are mel spectrograms of 512 rows: loud is dark, low frequencies are at the bottom.
RIFFUSION = MelScale(44100, 512, 441, 0.0, 10000.0, n_fft=17640, window=4410, log="", scale="htk", area=False)
RIFFUSION_LOUDEST = 30e6
RIFFUSION_POWER = 0.25


def riffusion_mel(picture: torch.Tensor) -> torch.Tensor:
    """Riffusion's picture, one channel [B, 512, W] of values 0 to 1, as mel magnitudes [B, W, 512]."""
    return ((1 - picture.flip(1)).clamp_min(0) ** (1 / RIFFUSION_POWER) * RIFFUSION_LOUDEST).transpose(1, 2)
