"""The audio UNets as the host's MODEL: latent format, noise schedule, conditioning."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
from comfy.conds import CONDRegular
from comfy.supported_models_base import BASE

from .fields import SchedulerFields, checked
from .folder import NAME
from .host_ops import use_host_ops
from .parts import AudioParts
from .shapes import audio_latent
from .text import GENERATED
from .unet import AudioLDM2UNet, PromptUNet

# diffusers' beta_schedule -> the host's name of the same curve
CURVES = {"scaled_linear": "linear", "linear": "sqrt_linear"}
KINDS = {"epsilon": comfy.model_base.ModelType.EPS, "v_prediction": comfy.model_base.ModelType.V_PREDICTION}


class AudioConfig(BASE):
    """The host's description of a model family."""

    unet_config = {"disable_unet_model_creation": True}
    unet_extra_config: dict[str, Any] = {}
    memory_usage_factor = 1.0  # Stable Diffusion's: the same blocks, no wider than Tango's 320 channels

    def inpaint_model(self) -> bool:
        return False


class TokenCond(CONDRegular):
    """Tokens [B, L, D] or their mask [B, L]: prompts of unequal length batch by padding with zeros, mask 0."""

    def can_concat(self, other: TokenCond) -> bool:
        return self.cond.shape[2:] == other.cond.shape[2:] and self.cond.device == other.cond.device

    def concat(self, others: list[TokenCond]) -> torch.Tensor:
        conds = [self.cond, *(other.cond for other in others)]
        longest = max(cond.shape[1] for cond in conds)
        padded = []
        for cond in conds:
            beyond_length = (0, 0) * (cond.ndim - 2)
            padded.append(F.pad(cond, (*beyond_length, 0, longest - cond.shape[1])))
        return torch.cat(padded)


class AudioModel(comfy.model_base.BaseModel):
    """A UNet of unet.py as the host's BaseModel. name: of its folder, for messages."""

    def __init__(
        self, config: AudioConfig, kind: comfy.model_base.ModelType, unet: PromptUNet | AudioLDM2UNet, name: str
    ):
        super().__init__(config, kind)
        self.diffusion_model = unet
        self.name = name
        comfy.model_management.archive_model_dtypes(unet)

    def extra_conds(self, **kwargs: Any) -> dict[str, CONDRegular]:
        """The prompt in the family's own form; no part of it depends on a place in time."""
        self._check_latent(kwargs["noise"])
        config = self.diffusion_model.config
        tokens = kwargs.get("cross_attn")
        if isinstance(self.diffusion_model, AudioLDM2UNet):
            second = kwargs.get(GENERATED)
            if second is None:
                raise ValueError(f"{self.name}: the prompt is of another model; use the CLIP of {NAME}.")
            return {"c_crossattn": TokenCond(tokens), **_masked("context_1", "context_1_mask", second)}
        if config.class_embed_type is not None:
            pooled = kwargs.get("pooled_output")
            self._check_prompt(pooled, config.projection_class_embeddings_input_dim)
            return {"y": CONDRegular(pooled)}
        width = config.cross_attention_dim
        self._check_prompt(tokens, width if isinstance(width, int) else width[0])
        return _masked("c_crossattn", "context_mask", tokens)

    def _check_latent(self, noise: torch.Tensor) -> None:
        channels = self.latent_format.latent_channels
        rows = self.latent_format.rows
        if noise.ndim != 4 or noise.shape[1] != channels or noise.shape[3] != rows or noise.shape[2] < 1:
            raise ValueError(
                f"{self.name}: expected a latent [batch, {channels}, time, {rows}], got {list(noise.shape)}; connect "
                "the latent of a Subview Planner with this model."
            )

    def _check_prompt(self, prompt: torch.Tensor | None, width: int) -> None:
        if prompt is None or prompt.shape[-1] != width:
            got = "none" if prompt is None else f"{prompt.shape[-1]}"
            raise ValueError(
                f"{self.name}: expected a prompt of {width} features, got {got}; use the CLIP of {NAME} that came with "
                "this model."
            )


def _masked(name: str, mask_name: str, tokens: torch.Tensor) -> dict[str, TokenCond]:
    """Tokens [B, L, D] and a mask [B, L] of ones."""
    return {name: TokenCond(tokens), mask_name: TokenCond(torch.ones(tokens.shape[:2], device=tokens.device))}


def sampling_settings(scheduler: dict[str, Any], name: str) -> tuple[dict[str, Any], comfy.model_base.ModelType]:
    """(the host's settings, kind of prediction) of a diffusers scheduler configuration (ValueError where unknown)."""
    fields = checked(SchedulerFields, scheduler, f"the scheduler of {name}")
    settings = {
        "beta_schedule": CURVES[fields.beta_schedule],
        "linear_start": fields.beta_start,
        "linear_end": fields.beta_end,
        "timesteps": fields.num_train_timesteps,
        "zsnr": fields.rescale_betas_zero_snr,
    }
    return settings, KINDS[fields.prediction_type]


def host_model(parts: AudioParts) -> comfy.model_patcher.ModelPatcher:
    """The host's MODEL of a UNet; weights in the type the host chooses for this device."""
    device = comfy.model_management.get_torch_device()
    parameters = sum(p.numel() for p in parts.unet.parameters())
    dtype = comfy.model_management.unet_dtype(device, parameters, AudioConfig.supported_inference_dtypes)
    config = AudioConfig({**AudioConfig.unet_config, "in_channels": parts.unet.config.in_channels})
    config.latent_format = audio_latent(parts.unet.config, parts.vae.config, parts.mel)
    config.sampling_settings, kind = sampling_settings(parts.scheduler, parts.name)
    config.set_inference_dtype(
        dtype, comfy.model_management.unet_manual_cast(dtype, device, AudioConfig.supported_inference_dtypes)
    )
    unet = torch.nn.Module.to(parts.unet, dtype)
    use_host_ops(unet, dtype, config.manual_cast_dtype)
    model = AudioModel(config, kind, unet, parts.name)
    return comfy.model_patcher.CoreModelPatcher(model, device, comfy.model_management.unet_offload_device())
