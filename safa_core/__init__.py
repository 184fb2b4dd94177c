"""Swap Forward (SaFa), arXiv:2502.05130, on torch alone: geometry, join operators, Algorithm 1."""

from .guide import ReferenceGuide
from .joins import AverageJoin, SwapJoin, TriangularJoin, swap_pattern
from .joint import joint_denoise
from .plan import ViewPlan, plan_views

__all__ = [
    "AverageJoin",
    "ReferenceGuide",
    "SwapJoin",
    "TriangularJoin",
    "ViewPlan",
    "joint_denoise",
    "plan_views",
    "swap_pattern",
]
