"""What the planner reads from a model: its units, the length it was made for, and its latents' long axis."""

from __future__ import annotations

from dataclasses import dataclass

from comfy.model_patcher import ModelPatcher

from ..audio.latent import AudioLatent

# Latent columns per second and the longest clip in seconds that its makers give for the model, by latent format.
AUDIO = {
    "StableAudio1": (44100 / 2048, 47.554),
    "StableAudio3": (44100 / 4096, 380.0),
    "ACEAudio": (44100 / (512 * 8), 240.0),
    "ACEAudio15": (25.0, 600.0),
}
# Rows of audio latents that have any.
AUDIO_ROWS = {"ACEAudio": 16}
# Pixels of the square picture that a family was trained on; 1024 for all younger ones.
PIXELS = {"SD15": 512, "SD15_instructpix2pix": 512, "SD20": 512, "SD21UnclipL": 768, "SD21UnclipH": 768, "LotusD": 512}


@dataclass(frozen=True)
class ModelFacts:
    """name: the host's name of the family. channels, dimensions: of its latents (1 audio, 2 pictures, 3 video).

    scale: seconds (audio) or pixels (pictures) that one latent column is. view: its own window, in columns.
    rows: rows of an audio latent; pictures have what the user chooses. unit: "seconds" or "pixels".
    axis: the long axis of [B, C, ...] where the model fixes it to another than the last.
    """

    name: str
    channels: int
    dimensions: int
    unit: str
    scale: float
    view: int
    rows: int = 1
    axis: int | None = None

    @property
    def audio(self) -> bool:
        return self.unit == "seconds"


def model_facts(model: ModelPatcher) -> ModelFacts:
    """Read from a host MODEL's latent format and family; refuses models of 3-D shapes and the like (ValueError)."""
    latent_format = model.get_model_object("latent_format")
    kind = type(latent_format).__name__
    family = type(model.model.model_config).__name__
    channels, dimensions = latent_format.latent_channels, latent_format.latent_dimensions
    if isinstance(latent_format, AudioLatent):
        rate = latent_format.columns_per_second
        view = round(latent_format.native_seconds * rate)
        rows, axis = latent_format.rows, latent_format.long_axis
        return ModelFacts(model.model.name, channels, dimensions, "seconds", 1 / rate, view, rows, axis)
    if kind in AUDIO:
        rate, longest = AUDIO[kind]
        return ModelFacts(
            family, channels, dimensions, "seconds", 1 / rate, round(longest * rate), AUDIO_ROWS.get(kind, 1)
        )
    pixels = PIXELS.get(family, 1024)
    if family == "SD20" and model.model.model_type.name == "V_PREDICTION":
        pixels = 768
    if dimensions == 1:
        raise ValueError(f"{family} makes neither pictures nor sound that has a length; use another model.")
    ratio = latent_format.spacial_downscale_ratio
    return ModelFacts(family, channels, dimensions, "pixels", ratio, pixels // ratio)
