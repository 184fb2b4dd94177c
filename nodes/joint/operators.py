"""Join operators and the reference guide as nodes."""

from __future__ import annotations

import logging

from comfy_api.latest import io

from ...safa_core import AverageJoin, ReferenceGuide, SwapJoin, TriangularJoin
from ..canvas import Guide
from ..errors import named
from ..sockets import CATEGORY, SaFaGuide, SaFaJoin

AXES = ["frames", "rows", "auto"]


class SaFaSelfLoopSwap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaSelfLoopSwap",
            display_name="Self-Loop Swap",
            category=CATEGORY,
            description=(
                "How neighbouring views share their overlap: they take turns, column by column, at every step, so "
                "fine detail is not averaged away (Eqs. 7 and 9 of arXiv:2502.05130)."
            ),
            search_aliases=["safa", "swap forward", "latent swap", "seamless", "join"],
            inputs=[
                io.Int.Input(
                    "interval",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="Swap interval w, in latent columns (or rows; in patches for models that see pixels): how "
                    "many in a row come from the same view. 1 or 2 give the smoothest transitions. Not longer than the "
                    "overlap.",
                ),
                io.Combo.Input(
                    "axis",
                    options=AXES,
                    default="frames",
                    tooltip="What takes turns: frames (columns along the canvas) or rows (across it). auto is frames.",
                ),
                io.Int.Input(
                    "shift",
                    default=0,
                    min=0,
                    max=4096,
                    advanced=True,
                    tooltip="Latent columns by which the swap ends before the earlier view does (SaFa+; 5 for "
                    "Make-An-Audio 2). 0 for all models with a 2-D VAE. Must be below the overlap.",
                ),
            ],
            outputs=[SaFaJoin.Output(display_name="join", tooltip="For SaFa Sampler or SaFa Model Patch.")],
        )

    @classmethod
    def execute(cls, interval: int, axis: str, shift: int) -> io.NodeOutput:
        with named("Self-Loop Swap"):
            return io.NodeOutput(SwapJoin(interval, shift, "frames" if axis == "auto" else axis))


class SaFaOverlapAverage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaOverlapAverage",
            display_name="Overlap Average (MultiDiffusion)",
            category=CATEGORY,
            description=(
                "How neighbouring views share their overlap: the mean of their predictions, as MultiDiffusion does. "
                "An alternative to Self-Loop Swap, for comparison; needs a high overlap (0.8) and so more views."
            ),
            search_aliases=["safa", "multidiffusion", "average", "panorama", "join"],
            inputs=[
                io.Combo.Input(
                    "window",
                    options=["flat", "triangular"],
                    default="flat",
                    tooltip="flat: every view has the same weight (MD). triangular: a view's weight falls towards its "
                    "ends (MD*).",
                ),
            ],
            outputs=[SaFaJoin.Output(display_name="join", tooltip="For SaFa Sampler or SaFa Model Patch.")],
        )

    @classmethod
    def execute(cls, window: str) -> io.NodeOutput:
        return io.NodeOutput(TriangularJoin() if window == "triangular" else AverageJoin())


class SaFaReferenceSwap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaReferenceSwap",
            display_name="Reference Swap",
            category=CATEGORY,
            description=(
                "One more view, denoised on its own, that all others follow during the early steps, so that the whole "
                "canvas has one style or timbre (Eq. 10 of arXiv:2502.05130)."
            ),
            search_aliases=["safa", "swap forward", "guide", "consistency", "style"],
            inputs=[
                io.Float.Input(
                    "rate",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the steps, the early ones, that follow the reference. 0.2 to 0.4 unify; above "
                    "0.6 the paper reports repetition and artefacts.",
                ),
                io.Int.Input(
                    "interval",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="Swap interval w, in latent columns or rows (in patches for models that see pixels): every "
                    "second group of w follows the reference.",
                ),
                io.Combo.Input(
                    "axis",
                    options=AXES,
                    default="auto",
                    tooltip="What follows the reference: frames (columns along the canvas) or rows (across it). "
                    "auto is frames for audio and rows for pictures.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="Prompt of the reference. Not connected: the canvas's own positive prompt.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="What the reference starts from, exactly one view in size; use it with denoise below 1. "
                    "Not connected: noise (or, with denoise below 1, the canvas's first view).",
                ),
            ],
            outputs=[SaFaGuide.Output(display_name="guide", tooltip="For SaFa Sampler or SaFa Model Patch.")],
        )

    @classmethod
    def execute(
        cls, rate: float, interval: int, axis: str, conditioning: list | None = None, latent: dict | None = None
    ) -> io.NodeOutput:
        with named("Reference Swap"):  # refuses what has no meaning here rather than at the sampler
            ReferenceGuide(rate, interval, "frames" if axis == "auto" else axis)
        if rate > 0.6:
            logging.warning(
                f"Reference Swap: a rate of {rate:g} is above 0.6, where the paper reports repetition and artefacts."
            )
        if any("hooks" in extra for _, extra in conditioning or ()):
            raise ValueError(
                "Reference Swap: the conditioning carries hooks (a LoRA schedule for one prompt), which the reference "
                "cannot have of its own; connect a conditioning without hooks."
            )
        if any({"mask", "area"} & extra.keys() for _, extra in conditioning or ()):
            logging.warning(
                "Reference Swap: the reference is one view of its own, so masks and areas of its prompt do not apply."
            )
        return io.NodeOutput(Guide(rate, interval, axis, conditioning, latent))
