"""Swap Forward (SaFa), arXiv:2502.05130, on torch alone: geometry, join operators, Algorithm 1."""

from .fold import ViewFold
from .guide import ReferenceGuide, guided_steps
from .joins import AverageJoin, Join, SwapJoin, TriangularJoin, swap_pattern
from .joint import joint_denoise
from .plan import ViewPlan, plan_views

__all__ = [
    "AverageJoin",
    "Join",
    "ReferenceGuide",
    "SwapJoin",
    "TriangularJoin",
    "ViewFold",
    "ViewPlan",
    "guided_steps",
    "joint_denoise",
    "plan_views",
    "swap_pattern",
]
