"""One call of the host's batch of conds, which the pack's wrapper stands in front of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

import comfy.model_management

CondLists = Sequence[list[dict] | None]  # the host's lists of conds (positive, negative, ...), None for one left out


@dataclass(frozen=True)
class HostBatch:
    """The host's batch of conds, as a wrapper of it is called: everything but the latent.

    executor: goes on with the host's. conds: its lists of conds (positive, negative, ...), None for one left out.
    timestep: [B], the sigma. options: the model_options.
    """

    executor: Callable
    model: torch.nn.Module
    conds: CondLists
    timestep: torch.Tensor
    options: dict

    def run(self, conds: CondLists, batch: torch.Tensor, windows: int, options: dict) -> list[torch.Tensor]:
        """Predictions by each list for a batch of so many windows, [windows * B, ...] each."""
        return self.executor(self.model, conds, batch, self.timestep.repeat(windows), options)

    def free_memory(self) -> float:
        """Bytes that are free for a call, by the host's measure; on several GPUs those of the fullest."""
        devices = self.options.get("multigpu_clones")
        if devices:
            return min(comfy.model_management.get_free_memory(device) for device in devices)
        return self.model.current_patcher.get_free_memory(self.model.current_patcher.load_device)
