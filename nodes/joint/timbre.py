"""ACE-Step 1.5 in batches: a window's timbre stays its own."""

from __future__ import annotations

import torch

from comfy.ldm.ace.ace_step15 import AceStepConditionGenerationModel

UNPACK = "diffusion_model.encoder.timbre_encoder.unpack_timbre_embeddings"


def keep_timbres_apart(model) -> None:
    """Patch a clone of an ACE-Step 1.5 MODEL; of any other nothing changes.

    The host (0.30) takes all reference audio of a batch for the first item's: that one hears every timbre, the others
    none, so views that run together would differ from views that run alone.
    """
    if isinstance(model.get_model_object("diffusion_model"), AceStepConditionGenerationModel):
        model.add_object_patch(UNPACK, one_timbre_each)


def one_timbre_each(timbres: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Timbres [N, D] as one token of each of N items: (tokens [N, 1, D], mask [N, 1])."""
    return timbres.unsqueeze(1), torch.ones(len(timbres), 1, dtype=torch.long, device=timbres.device)
