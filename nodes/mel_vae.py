"""What kind of VAE a node was given: one for pictures, one for sound, or one that makes mel spectrograms."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch

Kind = Literal["mel", "sound", "picture", "shape"]
# what each kind decodes to, and the node that does it
DECODED = {
    "mel": ("sound", "Mel Decode"),
    "sound": ("sound", "Mel Decode"),
    "picture": ("pictures", "VAE Decode"),
    "shape": ("3-D shapes", "the host's node for them"),
}


class MelVAE(Protocol):
    """A VAE between latents and log-mel spectrograms, as SaFa Audio Model Loader gives it.

    name:                of the model, for messages.
    first_stage_model:   the VAE itself, whose convolutions run around loops.
    vocoder:             a HiFi-GAN, None where the model has none.
    audio_sample_rate, fmin, fmax: in Hz. hop, n_fft: samples per mel frame, and of an STFT window.
    mel_bins, log:       bins of the spectrogram, and its logarithm ("ln" or "log10").
    loudest:             the most that `latent_to_mel` gives: what its training reached; None where that is unknown.
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
    loudest: float | None
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
    """Whether a VAE makes mel spectrograms, sound itself, pictures (videos too) or 3-D shapes; refuses an empty one.

    Of the host's VAEs those for sound have two output channels, those for pictures three or more, and those for shapes
    have three and latents without rows (comfy/sd.py).
    """
    if mel_vae(vae) is not None:
        return "mel"
    if getattr(vae, "first_stage_model", None) is None:
        raise ValueError("expected a VAE, got an empty one; the checkpoint holds none: load it with Load VAE.")
    if vae.output_channels < 3:
        return "sound"
    return "shape" if vae.latent_dim == 1 else "picture"


def check_vae(vae: Any, wanted: str) -> None:
    """Refuse a VAE that does not decode to what is wanted, "sound" or "pictures" (ValueError)."""
    got, node = DECODED[vae_kind(vae)]
    if got != wanted:
        raise ValueError(f"expected a VAE for {wanted}, got one for {got}; decode {got} with {node}.")


def check_latent(vae: Any, latent: torch.Tensor) -> None:
    """Refuse a latent [B, C, ...] that a VAE for pictures does not decode, by its shape (ValueError)."""
    if latent.shape[1] != vae.latent_channels:
        raise ValueError(
            f"the latent has {latent.shape[1]} channels, but this VAE decodes {vae.latent_channels}; connect the VAE "
            "of the model that made the latent."
        )
    if mel_vae(vae) is not None:
        return
    dimensions = (5,) if vae.latent_dim == 3 else (4, 5)  # for single pictures the host drops the frames
    if latent.ndim not in dimensions:
        sizes = "frames, height, width" if vae.latent_dim == 3 else "height, width"
        raise ValueError(
            f"expected a latent [batch, {vae.latent_channels}, {sizes}] for this VAE, got {list(latent.shape)}; "
            "connect the VAE of the model that made the latent."
        )
