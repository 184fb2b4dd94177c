"""What the planner reads from a model: its units, the size it was made for, and its latents' long axis.

Facts come from what the model says of itself: its latent format and its network's configuration. Each exception is one
row below, with its source; the first row that fits counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher
from comfy.supported_models_base import BASE

from ..audio.latent import AudioLatent
from ..canvas import measure

Says = dict[str, Any]

# Width and height in pixels that a family makes; 1024 x 1024 where no row fits.
SIZES: list[tuple[Says, tuple[int, int]]] = [
    # UNets that share the latents of Stable Diffusion 1: the model cards of 1.5, 2, 2.1 and unCLIP
    ({"latent_format": "SD15", "use_temporal_attention": True}, (1024, 576)),  # Stable Video Diffusion, its card
    ({"latent_format": "SD15", "context_dim": 1024, "adm_in_channels": 1536}, (768, 768)),
    ({"latent_format": "SD15", "context_dim": 1024, "adm_in_channels": 2048}, (768, 768)),
    ({"latent_format": "SD15", "context_dim": 1024, "prediction": "V_PREDICTION"}, (768, 768)),
    ({"latent_format": "SD15", "model_channels": 320}, (512, 512)),
    # pictures: the host's templates, or its node for the empty latent
    ({"image_model": "qwen_image"}, (1328, 1328)),
    ({"image_model": "lens"}, (1440, 1440)),
    ({"image_model": "hidream_o1"}, (2048, 2048)),  # EmptyHiDreamO1LatentImage
    ({"image_model": "hunyuan_video", "latent_channels": 64}, (2048, 2048)),  # EmptyHunyuanImageLatent
    # video, one frame of it: the defaults of the host's nodes that make the empty latent
    ({"image_model": "hunyuan_video", "latent_format": "HunyuanVideo15"}, (1280, 720)),  # EmptyHunyuanVideo15Latent
    ({"image_model": "hunyuan_video"}, (848, 480)),  # EmptyHunyuanLatentVideo
    ({"image_model": "wan2.1", "latent_format": "Wan22"}, (1280, 704)),  # Wan22ImageToVideoLatent
    ({"image_model": "wan2.1", "model_type": "scail"}, (512, 896)),  # WanSCAILToVideo
    ({"image_model": "wan2.1", "model_type": "scail2"}, (512, 896)),
    ({"image_model": "wan2.1", "model_type": "wandancer"}, (480, 832)),  # WanDancerVideo
    ({"image_model": "wan2.1"}, (832, 480)),  # WanImageToVideo
    ({"image_model": "cosmos"}, (1280, 704)),  # EmptyCosmosLatentVideo
    ({"image_model": "cosmos_predict2", "in_channels": 17}, (848, 480)),  # CosmosPredict2ImageToVideoLatent
    ({"image_model": "ltxv"}, (768, 512)),  # EmptyLTXVLatentVideo
    ({"image_model": "mochi_preview"}, (848, 480)),  # EmptyMochiLatentVideo
    ({"image_model": "cogvideox", "in_channels": 48}, (672, 384)),  # VOIDInpaintConditioning
    ({"image_model": "cogvideox"}, (720, 480)),  # arXiv:2408.06072
    ({"image_model": "kandinsky5", "latent_format": "HunyuanVideo"}, (768, 512)),  # Kandinsky5ImageToVideo
]
SQUARE = (1024, 1024)

# Seconds that one view should be: the longest clip that the makers give, or less where fewer work better.
SECONDS: list[tuple[Says, float]] = [
    ({"latent_format": "StableAudio1"}, 47.554),  # Stable Audio Open's model card
    ({"latent_format": "StableAudio3", "embed_dim": range(1536)}, 120.0),  # small: arXiv:2605.17991, table 1
    ({"latent_format": "StableAudio3"}, 380.0),  # medium
    ({"latent_format": "ACEAudio"}, 240.0),  # ACE-Step 1.0's model card
    ({"latent_format": "ACEAudio15"}, 120.0),  # it can 600 s, the host's templates make 120 s
]
WORKING_SECONDS = 120.0  # what the host's empty latents are for the other models of sound
RATES = (44100, 48000)
# Latent columns per second, and rows, of sound whose latents look like pictures.
SPECTROGRAMS = {"ACEAudio": (44100 / (512 * 8), 16)}  # EmptyAceStepLatentAudio

# Pixel-space models see patches: swapping within one would tear it.
PATCHES: list[tuple[Says, int]] = [({"image_model": "hidream_o1"}, 32)]  # the step of EmptyHiDreamO1LatentImage
PATCH = 16

PACKED = "samples video and sound in one pack, which has no single canvas; use a model of video or of sound alone"
SHAPES = "makes neither pictures nor sound; use a model that does"
UPSCALER = "enlarges what is there already; make the canvas with another model and enlarge the finished one"
TURNS = "shows one object from another side, which no canvas continues; use a model that makes pictures from a prompt"
DEPTH = "draws depth, on another scale in every view; make the picture first and give the whole of it to this model"
REFUSED: list[tuple[Says, str]] = [
    ({"image_model": "ltxav"}, PACKED),
    ({"image_model": "minimax_h3"}, PACKED),
    ({"image_model": "triposplat"}, SHAPES),
    ({"image_model": "seedvr2"}, UPSCALER),
    ({"image_model": "hunyuan_video", "in_channels": 98}, UPSCALER),  # HunyuanVideo 1.5, super-resolution
    ({"latent_format": "SD_X4"}, UPSCALER),
    ({"cc_projection.weight": True}, TURNS),  # Zero123
    ({"use_temporal_attention": True, "adm_in_channels": 256}, TURNS),  # SV3D u
    ({"use_temporal_attention": True, "adm_in_channels": 1280}, TURNS),  # SV3D p
    ({"latent_format": "SD15", "adm_in_channels": 4}, DEPTH),  # Lotus
    ({"latent_format": "LatentFormat", "image_model": str}, SHAPES),  # none of its own: depth, segmentation, detection
]


@dataclass(frozen=True)
class ModelFacts:
    """name: the host's name of the family. channels, dimensions: of its latents (1 sound, 2 pictures, 3 video).

    scale: seconds (sound) or pixels (pictures) that one latent column is. view: its own window, in columns.
    rows: its own height in latent rows; sound may have some, which are fixed. unit: "seconds" or "pixels".
    axis: the long axis of [B, C, ...] where the model fixes it to another than the last.
    patch: columns and rows that the network sees as one, where they are no latents but pixels.
    """

    name: str
    channels: int
    dimensions: int
    unit: str
    scale: float
    view: int
    rows: int = 1
    axis: int | None = None
    patch: int = 1

    @property
    def audio(self) -> bool:
        return self.unit == "seconds"

    def measure(self, columns: int) -> str:
        """A number of columns in people's units: "10.24 s", "512 px"."""
        return measure(columns, self.unit, self.scale)


def model_facts(model: ModelPatcher) -> ModelFacts:
    """Read from a host MODEL; refuses one that makes no canvas (ValueError)."""
    latent_format = model.get_model_object("latent_format")
    if not isinstance(latent_format, AudioLatent):
        return facts_of(model.model.model_config, latent_format, model.model.model_type.name)
    unit, scale = measure_of(latent_format)
    return ModelFacts(
        model.model.name,
        latent_format.latent_channels,
        latent_format.latent_dimensions,
        unit,
        scale,
        round(latent_format.native_seconds / scale),
        latent_format.rows,
        latent_format.long_axis,
    )


def facts_of(config: BASE, latent_format: LatentFormat, prediction: str = "") -> ModelFacts:
    """Read from the host's configuration of a model, which needs none of its weights; refuses as `model_facts`.

    prediction: the host's name of what the network predicts ("EPS", "V_PREDICTION", ...), where it is known.
    """
    name = type(config).__name__
    says = _says(config, latent_format, prediction)
    refusal = _first(REFUSED, says, None)
    if refusal is not None:
        raise ValueError(f"{name} {refusal}.")
    channels, dimensions = latent_format.latent_channels, latent_format.latent_dimensions
    unit, scale = measure_of(latent_format)
    if dimensions == 1 and unit != "seconds":
        raise ValueError(f"{name} {SHAPES}.")
    if unit == "seconds":
        seconds = _first(SECONDS, says, WORKING_SECONDS)
        _, rows = SPECTROGRAMS.get(says["latent_format"], (0, 1))
        return ModelFacts(name, channels, dimensions, unit, scale, round(seconds / scale), rows)
    ratio = latent_format.spacial_downscale_ratio
    width, height = _first(SIZES, says, SQUARE)
    patch = _patch(says) if ratio == 1 else 1
    return ModelFacts(name, channels, dimensions, unit, ratio, width // ratio, height // ratio, patch=patch)


def measure_of(latent_format: LatentFormat) -> tuple[str, float]:
    """What columns of such latents are counted in, "seconds" or "pixels", and how many of it one column is."""
    if isinstance(latent_format, AudioLatent):
        return "seconds", 1 / latent_format.columns_per_second
    rate, _ = SPECTROGRAMS.get(type(latent_format).__name__, (0.0, 1))
    if latent_format.latent_dimensions == 1 and latent_format.temporal_downscale_ratio > 1:
        rate = _rate(latent_format.temporal_downscale_ratio)
    if rate:
        return "seconds", 1 / rate
    return "pixels", latent_format.spacial_downscale_ratio


def follows_time(latent_format: LatentFormat) -> bool:
    """Whether a text may be the sound's own course, frame by frame; no family that has a row here works so."""
    unit, _ = measure_of(latent_format)
    known = [row["latent_format"] for row, _ in SECONDS]
    return unit == "seconds" and latent_format.latent_dimensions == 1 and type(latent_format).__name__ not in known


def _says(config: BASE, latent_format: LatentFormat, prediction: str) -> Says:
    """What rows are compared with: the network's configuration, and the names of weights that make the family."""
    says: Says = {**config.unet_config, "prediction": prediction}
    says.update(dict.fromkeys(config.required_keys, True))
    says["latent_format"] = type(latent_format).__name__
    says["latent_channels"] = latent_format.latent_channels
    return says


def _first(rows: list[tuple[Says, Any]], says: Says, otherwise: Any) -> Any:
    """The value of the first row that fits what a model says."""
    for row, value in rows:
        if all(_fits(says.get(key), wanted) for key, wanted in row.items()):
            return value
    return otherwise


def _fits(value: Any, wanted: Any) -> bool:
    """wanted: the value, a range that it lies in, or its type."""
    if isinstance(wanted, range):
        return value in wanted
    if isinstance(wanted, type):
        return isinstance(value, wanted)
    return value == wanted


def _rate(ratio: int) -> float:
    """Latent columns per second. Formats name no sample rate: it is one that makes them whole, else 44.1 kHz."""
    for sample_rate in RATES:
        if sample_rate % ratio == 0:
            return sample_rate / ratio
    return RATES[0] / ratio


def _patch(says: Says) -> int:
    patch = says.get("patch_size") or _first(PATCHES, says, PATCH)
    return patch[-1] if isinstance(patch, list | tuple) else patch
