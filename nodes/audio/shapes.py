"""What the configurations of an audio model tell of its spectrogram and its latents, without loading it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from .fields import Count, Fields, Rate, checked
from .folder import read_json
from .latent import AudioLatent

MEL_CONFIG = "mel_config.json"  # our own, for a model without vocoder: the fields of Mel
TRAINED_COLUMNS = 256  # 10.24 s: what every published checkpoint of these families was trained on


class Mel(Fields):
    """The log-mel spectrogram between VAE and vocoder. sampling_rate, fmin, fmax in Hz; hop_length, n_fft in samples.

    Defaults are AudioLDM's. log: "ln" or "log10", of magnitudes clamped at 1e-5. Slaney filters, Slaney norm.
    loudest: what 99 of 100 clips of its training stay below, where that is known; guidance overshoots it.
    """

    sampling_rate: Rate = 16000
    hop_length: Count = 160
    n_fft: Count = 1024
    n_mels: int = Field(64, ge=1, le=4096)
    fmin: float = Field(0.0, ge=0, le=192_000)
    fmax: float = Field(8000.0, gt=0, le=192_000)
    log: Literal["ln", "log10"] = "ln"
    loudest: float | None = None


def read_mel(folder: Path, vocoder: Any | None) -> Mel:
    """From mel_config.json where there is one, else from the vocoder, else AudioLDM's.

    vocoder: the configuration of the folder's vocoder, None where it has none.
    """
    fields = read_json(folder / MEL_CONFIG) if (folder / MEL_CONFIG).is_file() else {}
    unknown = fields.keys() - Mel.model_fields.keys()
    if unknown:
        raise ValueError(f"{folder.name}/{MEL_CONFIG} has unknown fields {sorted(unknown)}.")
    if vocoder is not None:
        rate = vocoder.sampling_rate
        fields = {
            "fmax": rate / 2,
            **fields,
            "sampling_rate": rate,
            "hop_length": math.prod(vocoder.upsample_rates),
            "n_mels": vocoder.model_in_dim,
        }
    return checked(Mel, fields, f"{folder.name}/{MEL_CONFIG}")


def audio_latent(unet: Any, vae: Any, mel: Mel) -> AudioLatent:
    """The shape and scale of the latents that a model denoises. unet, vae: the configurations of its components."""
    frames_per_column = 2 ** (len(vae.block_out_channels) - 1)
    rows = mel.n_mels // frames_per_column
    size = unet.sample_size
    # A single number is what AudioLDM's pipeline makes by default (5.12 s), and Tango's [32, 2] is of another UNet.
    known = not isinstance(size, int) and size is not None and size[1] == rows
    return AudioLatent(
        unet.in_channels,
        rows,
        mel.sampling_rate / (mel.hop_length * frames_per_column),
        size[0] if known else TRAINED_COLUMNS,
        vae.scaling_factor,
    )
