"""Detects NaN and infinity in predictions without waiting for the GPU at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch


class FiniteWatch:
    """Remembers one number per window and call, and raises ValueError once a finished one is not finite.

    who: the node's name in messages. name: the name of the i-th window.
    """

    def __init__(self, who: str, name: Callable[[int], str]):
        self.who, self.name = who, name
        self.pending: list[tuple[int, Sequence[int], torch.Tensor, torch.cuda.Event | None]] = []

    def note(self, predictions: torch.Tensor, windows: Sequence[int], step: int) -> None:
        """Watch a batch of windows [windows * B, ...]; one non-finite value makes its picture's sum so."""
        sums = predictions.flatten(1).sum(1, dtype=torch.float32)
        done = None
        if sums.is_cuda:
            sums = torch.empty_like(sums, device="cpu", pin_memory=True).copy_(sums, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
        self.pending.append((step, windows, sums, done))

    def check(self, wait: bool = False) -> None:
        """Look at what has arrived (all of it when `wait`); raises ValueError naming step and view."""
        while self.pending:
            step, windows, sums, done = self.pending[0]
            if done is not None:
                if wait:
                    done.synchronize()
                elif not done.query():
                    return
            self.pending.pop(0)
            bad = [i for i, value in enumerate(sums.tolist()) if not math.isfinite(value)]
            if bad:
                window = windows[bad[0] * len(windows) // len(sums)]
                raise ValueError(
                    f"{self.who}: the model returned NaN or infinity at step {step + 1} in {self.name(window)}; "
                    "check the model and its precision (--force-fp32, another VAE or LoRA) and the conditioning."
                )
