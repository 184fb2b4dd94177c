"""diffusers' UNets with the signature that the host calls. Weight names stay the library's, so LoRA keys fit."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.pipelines.audioldm2 import AudioLDM2UNet2DConditionModel


class PromptUNet(UNet2DConditionModel):
    """AudioLDM, MusicLDM (a prompt vector `y`) and Tango (prompt tokens `context` with their mask)."""

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        context: torch.Tensor | None = None,
        context_mask: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
        control: Any = None,
        transformer_options: dict | None = None,
    ) -> torch.Tensor:
        """Prediction [B, 8, T, F] for x [B, 8, T, F], t [B], context [B, L, D], context_mask [B, L], y [B, D]."""
        prompt = {"encoder_hidden_states": context, "encoder_attention_mask": context_mask, "class_labels": y}
        return super().forward(x, t, **prompt, return_dict=False)[0]


class AudioLDM2UNet(AudioLDM2UNet2DConditionModel):
    """AudioLDM2: GPT-2's tokens `context` and T5's `context_1` with their mask."""

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        context: torch.Tensor | None = None,
        context_1: torch.Tensor | None = None,
        context_1_mask: torch.Tensor | None = None,
        control: Any = None,
        transformer_options: dict | None = None,
    ) -> torch.Tensor:
        """Prediction [B, 8, T, F] for x [B, 8, T, F], t [B], context [B, 8, D], context_1 [B, L, D1], mask [B, L]."""
        prompt = {
            "encoder_hidden_states": context,
            "encoder_hidden_states_1": context_1,
            "encoder_attention_mask_1": context_1_mask,
        }
        return super().forward(x, t, **prompt, return_dict=False)[0]
