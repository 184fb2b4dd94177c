"""ACE-Step 1.5 in batches: every item keeps its own reference audio."""

from __future__ import annotations

import torch

from comfy.ldm.ace.ace_step15 import AceStepConditionGenerationModel
from comfy.model_patcher import ModelPatcher

UNPACK = "diffusion_model.encoder.timbre_encoder.unpack_timbre_embeddings"


def keep_timbres_apart(model: ModelPatcher) -> None:
    """Patch a clone of an ACE-Step 1.5 MODEL; any other is left as it is.

    The host (0.30) gives all reference audio of a batch to its first item and none to the others, so views that run
    together would differ from views that run alone.
    """
    if isinstance(model.get_model_object("diffusion_model"), AceStepConditionGenerationModel):
        model.add_object_patch(UNPACK, one_timbre_each)


def one_timbre_each(timbres: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Timbres [N, D] as one token of each of N items: (tokens [N, 1, D], mask [N, 1])."""
    return timbres.unsqueeze(1), torch.ones(len(timbres), 1, dtype=torch.long, device=timbres.device)
