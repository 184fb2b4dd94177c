"""The latent format of models that denoise a mel spectrogram with time first."""

from __future__ import annotations

from .live_spectrogram import SpectrogramLatent


class AudioLatent(SpectrogramLatent):
    """Latents [B, C, T, F] of a mel spectrogram: time is dim 2, frequency dim 3.

    columns_per_second: of dim 2. rows: the size of dim 3. native_seconds: the model's own clip.
    """

    columns_per_second = 25.0
    rows = 16
    native_seconds = 10.24

    def __init__(self, channels: int, rows: int, columns_per_second: float, columns: int, scale_factor: float):
        self.latent_channels = channels
        self.rows = rows
        self.scale_factor = scale_factor
        self.columns_per_second = columns_per_second
        self.native_seconds = columns / columns_per_second
