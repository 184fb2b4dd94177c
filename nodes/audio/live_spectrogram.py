"""The spectrogram taking shape while the host samples: Eq. 5 as factors of a latent format.

The host's previewer maps latent channels to colours with `latent_rgb_factors` of the model's latent format; for a mel
VAE these are the linear map, fitted when the first preview is asked for, and once per VAE.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable

import torch

import comfy.model_management
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher

from ...safa_core.measures.linear_map import LinearMap, synthetic_spectrograms
from ...safa_core.measures.linear_map import fit_linear_map as least_squares
from ..mel_vae import MelVAE

CLIPS, COLUMNS = 8, 64  # encoded for the fit: clips, and latent columns of each
# ln of mel magnitudes at brightness 0, where AudioLDM clamps, and at brightness 1
QUIETEST, LOUDEST = math.log(1e-5), 2.0
DECIBEL = math.log(10) / 20 / (LOUDEST - QUIETEST)  # brightness of one dB
LEAST, MOST = 20 * DECIBEL, 80 * DECIBEL  # that a picture spans from black to white, as much as lies in its sound
DARK, BRIGHT = 0.02, 0.995  # shares of a picture's places that are black, and that are not white
# Red, green, blue = slope * brightness + offset, cut to 0 ... 1: dark blue, violet, rose, white.
RAMPS = ((1.9, -0.2), (1.7, -0.65), (1.0, 0.12))
WIDTH, ASPECT = 512, 4  # pixels of the picture at most (the host's own limit), and how much wider than high

_maps: dict[str, LinearMap] = {}


class SpectrogramLatent(LatentFormat):
    """Latents [B, C, ...] of a mel VAE with time along `long_axis` and frequency, low first, along the other.

    fit: makes the LinearMap from the VAE's latents (before `process_in`) to brightness 0 ... 1; None for no preview.
    """

    latent_channels = 8
    latent_dimensions = 2
    long_axis = 2
    fit: Callable[[], LinearMap] | None = None
    linear_map: LinearMap | None = None

    @property
    def latent_rgb_factors(self) -> list[list[float]] | None:
        linear_map = self._fit()
        if linear_map is None:
            return None
        factors = []
        for weight in linear_map.weights:
            # the previewer maps v to (v + 1) / 2
            factors.append([2 * slope * weight / self.scale_factor for slope, _ in RAMPS])
        return factors

    @property
    def latent_rgb_factors_bias(self) -> list[float] | None:
        linear_map = self._fit()
        if linear_map is None:
            return None
        return [2 * (slope * linear_map.bias + offset) - 1 for slope, offset in RAMPS]

    def latent_rgb_factors_reshape(self, latents: torch.Tensor) -> torch.Tensor:
        """The first latent as a picture [1, C, rows, columns]: time to the right, low frequencies at the bottom.

        Eq. 5 is linear, so latents of a long canvas are averaged to the picture's width before they are mapped, and
        moved along the map's weights so that their brightness goes from black to white.
        """
        picture = latents[:1].float().movedim(self.long_axis, 3).flip(2)
        rows = picture.shape[2]
        width = min(WIDTH, picture.shape[3])
        picture = self._with_contrast(torch.nn.functional.adaptive_avg_pool2d(picture, (rows, width)))
        return picture.repeat_interleave(max(1, width // (ASPECT * rows)), dim=2)

    def _with_contrast(self, picture: torch.Tensor) -> torch.Tensor:
        """Latents [1, C, rows, columns] whose brightness is 0 at the quietest places and 1 at the loudest."""
        if self.linear_map is None:
            return picture
        weights = torch.tensor(self.linear_map.weights).to(picture) / self.scale_factor
        bias = self.linear_map.bias
        brightness = torch.einsum("c,bcft->bft", weights, picture) + bias
        low, high = brightness.quantile(torch.tensor([DARK, BRIGHT]).to(picture)).tolist()
        span = min(MOST, max(LEAST, high - low))
        if not math.isfinite(high) or not weights.any():  # a sampling that went wrong is shown as it is
            return picture
        shift = (bias - (high - span)) / span - bias  # of the brightness, once it is divided by the span
        return picture / span + shift * (weights / weights.square().sum())[:, None, None]

    def _fit(self) -> LinearMap | None:
        if self.linear_map is None and self.fit is not None:
            try:
                self.linear_map = self.fit()
            except comfy.model_management.OOM_EXCEPTION:
                logging.warning("SaFa: too little memory to fit the live spectrogram; sampling goes on without it.")
            self.fit = None  # it holds the VAE
        return self.linear_map


def with_live_spectrogram(model: ModelPatcher, fit: Callable[[], LinearMap]) -> ModelPatcher:
    """A MODEL whose latent format is a SpectrogramLatent, with its map; all clones of the model share it.

    fit: such as `lambda: fit_linear_map(vae)`, called for the first preview. The previewer reads the latent format of
    the loaded model, not an object patch of a clone, so the map is set there.
    """
    model.model.latent_format.fit = fit
    return model


def fit_linear_map(vae: MelVAE) -> LinearMap:
    """The map from a mel VAE's latents to brightness; fitted once for the VAE's weights and kept in memory."""
    key = weights_key(vae.first_stage_model)
    if key not in _maps:
        _maps[key] = least_squares(*synthetic_latents(vae))
        logging.info(f"SaFa: the live spectrogram's linear map explains {_maps[key].r2:.1%} of the mel spectrogram.")
    return _maps[key]


@torch.no_grad()
def synthetic_latents(vae: MelVAE, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(latents [B, C, T, F], brightness [B, frames, bins]) of synthetic clips."""
    brightness = synthetic_spectrograms(CLIPS, COLUMNS * vae.frames_per_column, vae.mel_bins, seed)
    mel = QUIETEST + (LOUDEST - QUIETEST) * brightness
    latents = vae.mel_to_latent(mel / math.log(10) if vae.log == "log10" else mel)
    return latents.movedim(vae.latent_axis, 2), brightness


def weights_key(module: torch.nn.Module) -> str:
    """A hash of all weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
