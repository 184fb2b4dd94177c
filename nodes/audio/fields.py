"""What the pack itself reads of a model folder's JSON files: each field's type and range, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Rate = Annotated[int, Field(ge=1000, le=384_000)]  # Hz
Count = Annotated[int, Field(ge=1, le=65_536)]


class Fields(BaseModel):
    """Fields of one file; others in it are left alone."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="ignore")


class SchedulerFields(Fields):
    """scheduler_config.json of diffusers."""

    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    beta_schedule: Literal["scaled_linear", "linear"] = "linear"
    beta_start: float = Field(0.0001, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)
    num_train_timesteps: int = Field(1000, ge=1, le=10_000)
    rescale_betas_zero_snr: bool = False
    trained_betas: None = None


class VaeFields(Fields):
    """config.json of an AutoencoderKL."""

    latent_channels: int = Field(4, ge=1, le=1024)
    scaling_factor: float = Field(0.18215, gt=0, le=1e4)
    block_out_channels: list[Count] = Field([64], min_length=1, max_length=12)


class VocoderFields(Fields):
    """config.json of a SpeechT5HifiGan."""

    sampling_rate: Rate = 16000
    model_in_dim: int = Field(80, ge=1, le=4096)
    upsample_initial_channel: Count = 512
    upsample_rates: list[Annotated[int, Field(ge=1, le=512)]] = Field([4, 4, 4, 4], min_length=1, max_length=12)


class UnetFields(Fields):
    """config.json of a UNet2DConditionModel."""

    in_channels: int = Field(4, ge=1, le=1024)
    sample_size: Count | Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None


class LanguageFields(Fields):
    """config.json of AudioLDM2's GPT-2."""

    max_new_tokens: int = Field(8, ge=1, le=1024)


Kind = TypeVar("Kind", bound=Fields)


def checked(kind: type[Kind], values: Mapping[str, Any], place: str) -> Kind:
    """The fields of a file; ValueError, one sentence, for one of another type or beyond its range.

    place: the file, for the message.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        expected = first["msg"].removeprefix("Input ").removeprefix("should ")
        raise ValueError(f"{place} has {field} = {str(first['input'])[:60]}, which should {expected}.") from error
