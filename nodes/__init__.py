"""What ComfyUI sees of the pack."""

from comfy_api.latest import ComfyExtension, io

from .audio.loader import SaFaAudioModelLoader
from .decode.loop_decode import SaFaLoopDecode
from .decode.mel_decode import SaFaMelDecode
from .decode.riffusion_decode import SaFaRiffusionDecode
from .decode.save_loop import SaFaSaveLoop
from .joint.file_facts import add_route
from .joint.operators import SaFaOverlapAverage, SaFaReferenceSwap, SaFaSelfLoopSwap
from .joint.planner import SaFaSubviewPlanner
from .joint.prompt_timeline import SaFaPromptTimeline
from .joint.sampler import SaFaModelPatch, SaFaSampler
from .report.record_steps import SaFaRecordSteps
from .report.roll_half import SaFaRollHalf
from .report.spectrum_report import SaFaSpectrumReport
from .rivals.lite_focus import SaFaLiteFocus
from .rivals.merge_attend import SaFaMergeAttend
from .rivals.sync_diffusion import SaFaSyncGradient

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
    async def on_load(self) -> None:
        add_route()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> SaFaExtension:
    return SaFaExtension()
