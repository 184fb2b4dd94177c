"""Reference-Guided Latent Swap: which places follow the reference, and for how long (Eq. 10)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .joins import check_pattern, check_rows, columns_since, swap_pattern
from .plan import ViewPlan


def guided_steps(rate: float, steps: int) -> int:
    """K = round(rate * T), the number of early steps with guidance (the paper's 60 of 200, 15 of 50); halves go up."""
    return int(rate * steps + 0.5)


@dataclass(frozen=True)
class ReferenceGuide:
    """W_refer of Eq. 10.

    rate:     r_guide, share of the early steps with guidance, in [0, 1]. The paper uses 0.3 and sees repetition and
              artefacts above 0.6.
    interval: swap interval w, in columns or rows of each middle.
    axis:     "frames" (audio) or "rows" (pictures): what alternates between the view and the reference.
    """

    rate: float = 0.3
    interval: int = 1
    axis: str = "frames"

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"Expected `rate` in [0, 1], got {self.rate}.")
        check_pattern(self.interval, self.axis)

    def guided_steps(self, steps: int) -> int:
        """K for a sampling of so many steps: `guided_steps` of the guide's own rate."""
        return guided_steps(self.rate, steps)

    def places(self, plan: ViewPlan, rows: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """Canvas places that follow the reference, and the reference column that belongs to each canvas column.

        Returns (guided [rows, length] bool, column [length] int64). Only middles are guided: columns that one view
        alone covers (Eq. 3). Raises ValueError where the plan has no middle or the interval no room.
        """
        column = plan.slots[1][0]
        middle = plan.coverage == 1
        if not middle.any():
            raise ValueError(
                "Expected a plan with columns that only one view covers, got none: "
                "a reference needs an overlap below one half."
            )
        if self.axis == "rows":
            check_rows(self.interval, rows)
            return swap_pattern(rows, self.interval).bool().unsqueeze(1) & middle, column
        position = columns_since(middle & ((column == 0) | ~middle.roll(1)))
        longest = int(position[middle].max()) + 1
        if self.interval >= longest:
            raise ValueError(f"Expected `interval` below the longest middle of {longest} columns, got {self.interval}.")
        pattern = swap_pattern(plan.length, self.interval).bool()
        return (pattern[position] & middle).expand(rows, -1), column
