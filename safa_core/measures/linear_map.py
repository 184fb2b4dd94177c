"""The channel-wise linear map between a spectrogram and its VAE latent, SaFa Eq. 5: X downsampled is nearly W · Z."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class LinearMap:
    """W of Eq. 5 for spectrograms of one value per bin, with a constant.

    weights: one number per latent channel. r2: share of the variance that the map explains, 1 is all.
    """

    weights: tuple[float, ...]
    bias: float
    r2: float

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Values [B, T, F] of latents [B, C, T, F]."""
        weights = torch.tensor(self.weights, dtype=latents.dtype, device=latents.device)
        return torch.einsum("c,bctf->btf", weights, latents) + self.bias


def downsample(spectrograms: torch.Tensor, frames: int, bins: int) -> torch.Tensor:
    """Mean over equal areas: [B, T, F] to [B, frames, bins]."""
    return torch.nn.functional.adaptive_avg_pool2d(spectrograms, (frames, bins))


def explained(values: torch.Tensor, fitted: torch.Tensor) -> float:
    """R²: share of the variance of `values` that `fitted` explains."""
    return 1 - float((values - fitted).square().sum() / (values - values.mean()).square().sum())


def fit_linear_map(latents: torch.Tensor, spectrograms: torch.Tensor) -> LinearMap:
    """Least squares over all places of latents [B, C, T, F] and their spectrograms [B, frames, bins]."""
    latents = latents.double().cpu()
    values = downsample(spectrograms.double().cpu(), *latents.shape[2:])
    places = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    ones = torch.ones(len(places), 1, dtype=places.dtype)
    # gelsd: dead channels of a latent leave the matrix without full rank, which the default driver does not survive
    solved = torch.linalg.lstsq(torch.cat([places, ones], 1), values.reshape(-1, 1), driver="gelsd").solution
    *weights, bias = solved.flatten().tolist()
    fitted = LinearMap(tuple(weights), bias, 0.0)
    return replace(fitted, r2=explained(values, fitted(latents)))


def synthetic_spectrograms(count: int, frames: int, bins: int, seed: int = 0) -> torch.Tensor:
    """Random clips [count, frames, bins] of brightness 0 (silence) to 1: noise, tones, bursts and chirps, mixed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([_clip(frames, bins, generator) for _ in range(count)])


def _clip(frames: int, bins: int, generator: torch.Generator) -> torch.Tensor:
    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=generator))

    time, bin_ = torch.arange(frames)[:, None], torch.arange(bins)[None, :]
    tilt = draw(0.1, 0.7) - draw(0.0, 0.5) * bin_ / bins
    sound = tilt + draw(0.02, 0.15) * torch.randn(frames, bins, generator=generator)
    for _ in range(3):  # a tone with harmonics, which swells and fades
        swell = (0.5 + 0.5 * torch.sin(2 * math.pi * (time / frames * draw(0.5, 4) + draw(0, 1)))) * draw(0.5, 1)
        pitch = draw(2, bins / 4)
        width = draw(0.5, 1.5)
        for harmonic in range(1, 5):
            line = torch.exp(-(((bin_ - harmonic * pitch) / width) ** 2)) / harmonic**0.5
            sound = torch.maximum(sound, swell * line)
    for _ in range(3):  # a burst of noise that dies away
        age = time - draw(0, frames)
        decay = torch.where(age >= 0, torch.exp(-age / draw(3, frames / 4)), 0.0) * draw(0.5, 1)
        sound = torch.maximum(sound, decay * (0.8 + 0.2 * torch.rand(frames, bins, generator=generator)))
    for _ in range(2):  # a chirp
        path = draw(0, bins) + draw(-bins, bins) * time / frames
        sound = torch.maximum(sound, draw(0.5, 1) * torch.exp(-(((bin_ - path) / draw(0.5, 2)) ** 2)))
    return sound.clamp(0, 1)
