"""Detects NaN and infinity in predictions without waiting for the GPU at every step."""

from __future__ import annotations

from collections.abc import Callable

import torch


class FiniteWatch:
    """Remembers one number per view and call, and raises ValueError once a finished one is not finite.

    who: the node's name in messages. name: the name of the i-th view.
    """

    def __init__(self, who: str, name: Callable[[int], str]):
        self.who, self.name = who, name
        self.pending: list[tuple[int, torch.Tensor, torch.cuda.Event | None]] = []

    def note(self, predictions: torch.Tensor, axis: int, view: int, step: int) -> None:
        """Watch predictions side by side, [B, C, ..., n * view]; one non-finite value makes its view's sum so."""
        blocks = predictions.unflatten(axis, (-1, view)).movedim(axis, 0).flatten(1)
        sums = blocks.sum(1, dtype=torch.float32)
        done = None
        if sums.is_cuda:
            sums = torch.empty_like(sums, device="cpu", pin_memory=True).copy_(sums, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
        self.pending.append((step, sums, done))

    def check(self, wait: bool = False) -> None:
        """Look at what has arrived (all of it when `wait`); raises ValueError naming step and view."""
        while self.pending:
            step, sums, done = self.pending[0]
            if done is not None:
                if wait:
                    done.synchronize()
                elif not done.query():
                    return
            self.pending.pop(0)
            bad = (~torch.isfinite(sums)).nonzero().flatten().tolist()
            if bad:
                raise ValueError(
                    f"{self.who}: the model returned NaN or infinity at step {step + 1} in {self.name(bad[0])}; "
                    "check the model and its precision (--force-fp32, another VAE or LoRA) and the conditioning."
                )
