"""What ComfyUI sees of the pack."""

from comfy_api.latest import ComfyExtension, io

from .audio_loader import SaFaAudioModelLoader
from .lite_focus import SaFaLiteFocus
from .loop_decode import SaFaLoopDecode
from .mel_decode import SaFaMelDecode
from .merge_attend import SaFaMergeAttend
from .operators import SaFaOverlapAverage, SaFaReferenceSwap, SaFaSelfLoopSwap
from .planner import SaFaSubviewPlanner
from .record_steps import SaFaRecordSteps
from .riffusion_decode import SaFaRiffusionDecode
from .sampler import SaFaModelPatch, SaFaSampler
from .save_loop import SaFaSaveLoop
from .seam import SaFaRollHalf
from .spectrum_report import SaFaSpectrumReport
from .sync_gradient import SaFaSyncGradient
from .timeline import SaFaPromptTimeline

NODES = [
    SaFaSubviewPlanner,
    SaFaSelfLoopSwap,
    SaFaOverlapAverage,
    SaFaReferenceSwap,
    SaFaModelPatch,
    SaFaSampler,
    SaFaLoopDecode,
    SaFaAudioModelLoader,
    SaFaSaveLoop,
    SaFaMelDecode,
    SaFaRiffusionDecode,
    SaFaLiteFocus,
    SaFaMergeAttend,
    SaFaSyncGradient,
    SaFaRecordSteps,
    SaFaSpectrumReport,
    SaFaPromptTimeline,
    SaFaRollHalf,
]


class SaFaExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> SaFaExtension:
    return SaFaExtension()
