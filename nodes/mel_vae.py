"""What kind of VAE a node was given: one for pictures, one for sound, or one that makes mel spectrograms."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, Protocol

import torch

Kind = Literal["mel", "sound", "picture"]


class MelVAE(Protocol):
    """A VAE between latents and log-mel spectrograms, as SaFa Audio Model Loader gives it.

    name:                of the model, for messages.
    first_stage_model:   the VAE itself, whose convolutions run around loops.
    vocoder:             a HiFi-GAN, None where the model has none.
    audio_sample_rate, fmin, fmax: in Hz. hop, n_fft: samples per mel frame, and of an STFT window.
    mel_bins, log:       bins of the spectrogram, and its logarithm ("ln" or "log10").
    latent_channels:     of latents [B, C, ...]. latent_axis: which dimension of them is time.
    frames_per_column:   mel frames per latent column.
    """

    name: str
    first_stage_model: torch.nn.Module
    vocoder: torch.nn.Module | None
    audio_sample_rate: int
    fmin: float
    fmax: float
    hop: int
    n_fft: int
    mel_bins: int
    log: str
    latent_channels: int
    latent_axis: int
    frames_per_column: int
    device: torch.device
    vae_dtype: torch.dtype

    def load(self, memory_required: float = 0) -> None:
        """Bring everything to the device, with `memory_required` bytes left beside it."""

    def memory_used_decode(self, shape: Any, dtype: torch.dtype) -> float:
        """Bytes that a latent of this shape takes to decode."""

    def latent_to_mel(self, latent: torch.Tensor) -> torch.Tensor:
        """Latent [B, C, ...] -> log-mel [B, columns * frames_per_column, mel_bins]."""

    def mel_to_latent(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel [B, frames, mel_bins] -> latent [B, C, ...]."""

    def mel_to_audio(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel [B, frames, mel_bins] -> waveform [B, frames * hop]; only with a vocoder."""


def mel_vae(vae: Any) -> MelVAE | None:
    """`vae` where it makes mel spectrograms, else None (the host's own VAEs)."""
    return vae if hasattr(vae, "latent_to_mel") else None


def vae_kind(vae: Any) -> Kind:
    """Whether a VAE makes mel spectrograms, sound itself, or pictures (videos too); RuntimeError for an empty one."""
    if mel_vae(vae) is not None:
        return "mel"
    vae.throw_exception_if_invalid()
    return "sound" if vae.latent_dim == 1 or vae.extra_1d_channel is not None else "picture"


def check_vae(vae: Any, wants: Collection[str], refusal: str) -> None:
    """Refuse a VAE of another kind than `wants` with the sentence `refusal` (ValueError)."""
    if vae_kind(vae) not in wants:
        raise ValueError(refusal)


def check_channels(vae: Any, latent: torch.Tensor) -> None:
    """Refuse a latent [B, C, ...] with other channels than the VAE decodes (ValueError)."""
    if latent.shape[1] != vae.latent_channels:
        raise ValueError(
            f"the latent has {latent.shape[1]} channels, but this VAE decodes {vae.latent_channels}; connect the VAE "
            "of the model that made the latent."
        )
