"""Every node of the host that patches a MODEL or makes a GUIDER: how it gets on with joint diffusion.

A node that is missing here fails a test: run it once, and say which of the four verdicts is its.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from safa_pack.tests import tiny_families, tiny_models
from safa_pack.tests.nodes.host_calls import CFG, canvas_of
from safa_pack.tests.nodes.joint.mixes import node_inputs
from safa_pack.tests.nodes.joint.mixes.node_inputs import Vae, canvas_image, canvas_mask

EQUAL, WHOLE, REFUSED, NOTHING = "equal", "whole canvas", "refused", "nothing to sample"


@dataclass(frozen=True)
class Family:
    """A tiny model and the canvas of three views that it is run on.

    prompt: makes a conditioning of a seed.
    """

    make: Callable
    prompt: Callable
    shape: tuple[int, ...]
    view: int = 12

    @property
    def canvas(self):
        return canvas_of(self.shape, self.view)


def _of(kind):
    return lambda seed, **values: tiny_models.conditioning(kind, seed, **values)


PICTURE, FRAME = (1, 16, 4, 28), (1, 16, 1, 4, 28)
FAMILIES = {
    "toy": Family(tiny_models.toy, _of("toy"), (2, 4, 4, 28)),  # two pictures in a batch
    "toy, one": Family(tiny_models.toy, _of("toy"), (1, 4, 4, 28)),
    "toy flow": Family(lambda: tiny_models.toy(flow=True), _of("toy"), (2, 4, 4, 28)),
    "toy, wrapped": Family(node_inputs.wrapped_toy, _of("toy"), (2, 4, 4, 28)),
    "toy pixels": Family(lambda: node_inputs.wrapped_toy(3, 32), _of("toy"), (1, 3, 96, 400), 160),
    "SD1.5": Family(node_inputs.unet, tiny_families.prompt, (1, 4, 8, 28)),
    "SDXL": Family(node_inputs.sdxl, tiny_families.prompt, (1, 4, 8, 28)),
    "SD3": Family(tiny_models.sd3, _of("sd3"), PICTURE),
    "Flux": Family(tiny_families.flux, tiny_families.prompt, PICTURE),
    "Flux 2": Family(node_inputs.flux2, tiny_families.prompt, PICTURE),
    "Qwen-Image": Family(tiny_families.qwen_image, tiny_families.prompt, FRAME),
    "Z-Image": Family(node_inputs.z_image, tiny_families.prompt, PICTURE),
    "Cosmos": Family(tiny_families.cosmos, tiny_families.prompt, FRAME),
    "Wan": Family(tiny_families.wan, tiny_families.prompt, FRAME),
    "Wan I2V": Family(node_inputs.wan_i2v, tiny_families.prompt, (1, 16, 2, 4, 28)),
}


@dataclass(frozen=True)
class PerWindow:
    """An input that is cut by hand; make: called with a `Cut`."""

    make: Callable


@dataclass(frozen=True)
class Row:
    """How one node is run, and what comes of it.

    verdict: EQUAL: every view is what the host makes of it alone. WHOLE: it reckons with the whole canvas by its
             nature. REFUSED: with a sentence. NOTHING: there is nothing to sample with.
    family:  of FAMILIES.
    inputs:  of the node, where they are not its defaults; functions make one.
    why:     a reason; of a refusal, what its sentence has in it.
    exact:   whether the result for a whole canvas can be checked.
    acts:    whether the result differs from that without the node.
    cfg:     of the sampling.
    steps:   likewise.
    values:  of the conditioning's dictionary.
    apart:   whether the node keeps something of a view from step to step.
    """

    verdict: str
    family: str = "toy"
    inputs: dict = field(default_factory=dict)
    why: str = ""
    exact: bool = True
    acts: bool = True
    cfg: float = CFG
    steps: int = 2
    values: dict = field(default_factory=dict)
    apart: bool = False

    @property
    def is_per_window(self):
        return self.apart or any(isinstance(value, PerWindow) for value in self.inputs.values())

    def prompts(self):
        return [FAMILIES[self.family].prompt(seed, **self.values) for seed in (1, 2)]


def equal(family, acts=True, why="", run=None, **inputs):
    return Row(EQUAL, family, inputs, why, acts=acts, **(run or {}))


def whole(family, why, exact=True, steps=2, **inputs):
    return Row(WHOLE, family, inputs, why, exact, steps=steps)


def refused(family, sentence, run=None, **inputs):
    return Row(REFUSED, family, inputs, sentence, **(run or {}))


def nothing(why):
    return Row(NOTHING, why=why)


def prompt(seed):
    """An input: a prompt for the toy."""
    return lambda: tiny_models.conditioning("toy", seed)


def supir_strength(cut):
    """The reference's pull towards the picture is left out, with a warning: it holds a latent of the canvas's size."""
    return 0.0 if cut.of_reference else 4.0


ALWAYS = {"start_percent": 0.0, "end_percent": 1.0}
TWO = {"positive": prompt(1), "negative": prompt(2)}
OTHER_UNET = {"model2": lambda: node_inputs.other_unet()}
ALONE = {"cfg": 1.0}  # where the host itself takes a batch of one only
LORA = {"lora_name": "lora.safetensors"}
UNLIKE_MERGES = "merges weights by the rule of ModelMergeBlocks, with other names of blocks"
SKIPS = "skips a step for all views together"
BOTH_CUT = "Context Windows and SaFa both cut"
OWN_PICTURE = {"values": {"reference_latents": [torch.randn(1, 16, 4, 6, generator=torch.Generator().manual_seed(9))]}}

ROWS = {
    # guidance
    "APG": whole("toy", "norms and projections", eta=0.5, norm_threshold=5.0),
    "CFGNorm": equal("toy", strength=0.8),
    "CFGOverride": equal("toy", cfg=1.5, start_percent=0.0, end_percent=0.5),
    "CFGZeroStar": whole("toy", "a projection"),
    "Epsilon Scaling": equal("toy", scaling_factor=1.01),
    "FreSca": whole("toy", "a Fourier transform", freq_cutoff=1),
    "LatentApplyOperationCFG": whole(
        "toy", "what the operation looks at", operation=lambda: node_inputs.tonemap()
    ),
    "Mahiro": whole("toy", "a similarity"),
    "NAGuidance": equal("Flux", nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5),
    "PerpNeg": whole("toy", "a projection", empty_conditioning=prompt(7)),
    "PerturbedAttentionGuidance": equal("SD1.5"),
    "RenormCFG": whole("SD1.5", "norms", cfg_trunc=1000.0),
    "RescaleCFG": whole("toy", "standard deviations"),
    "SelfAttentionGuidance": whole("SD1.5", "blurs the canvas by one view's attention", exact=False),
    "SkipLayerGuidanceDiT": whole(
        "SD3", "standard deviations, where it rescales", **ALWAYS, double_layers="0", rescaling_scale=0.2
    ),
    "SkipLayerGuidanceDiTSimple": equal("SD3", **ALWAYS, double_layers="0"),
    "SkipLayerGuidanceSD3": equal("SD3", **ALWAYS, layers="0"),
    "TCFG": whole("toy", "a singular value decomposition"),
    "TemporalScoreRescaling": equal("toy, one", tsr_k=0.9),
    "VideoLinearCFGGuidance": equal("toy"),
    "VideoTriangleCFGGuidance": equal("toy"),
    "LTXVReferenceAudio": equal(
        "toy", acts=False, why="the model that reads the reference has packed latents, which are refused",
        reference_audio={"waveform": torch.zeros(1, 2, 100), "sample_rate": 44100},
        audio_vae=lambda: AudioVae(), **TWO,
    ),
    # guiders
    "BasicGuider": equal("toy", conditioning=prompt(1)),
    "CFGGuider": equal("toy", acts=False, cfg=4.0, **TWO),
    "DualCFGGuider": equal(
        "toy", cond1=prompt(1), cond2=prompt(7), negative=prompt(2), cfg_conds=3.0, cfg_cond2_negative=2.0
    ),
    "DualModelGuider": equal("toy", acts=False, model_negative=lambda: tiny_models.toy(), cfg=4.0, **TWO),
    "PerpNegGuider": whole("toy", "a projection", empty_conditioning=prompt(7), cfg=4.0, **TWO),
    # caches
    "EasyCache": whole("toy, wrapped", SKIPS, exact=False, steps=6, reuse_threshold=1.0, **ALWAYS),
    "LazyCache": whole("toy", SKIPS, exact=False, steps=6, reuse_threshold=1.0, **ALWAYS),
    "FluxKVCache": equal("Flux 2", run=OWN_PICTURE | {"apart": True}),
    # inside the network
    "ChromaRadianceOptions": equal("toy", acts=False),
    "FreeU": equal("SD1.5"),
    "FreeU_V2": equal("SD1.5"),
    "HiDreamO1PatchSeamSmoothing": equal("toy pixels", **ALWAYS),
    "HyperTile": equal("SD1.5", tile_size=32, swap_size=1, max_depth=1),
    "PatchModelAddDownscale": equal("SD1.5", **ALWAYS),
    "ScaleROPE": equal("Flux", scale_x=1.2, shift_x=2.0, scale_y=0.9, shift_y=1.0),
    "TomePatchModel": equal("SD1.5", ratio=0.3, why="with the same draw of tokens for every view"),
    "TorchCompileModel": equal("toy", acts=False, backend="eager"),
    "UNetCrossAttentionMultiply": equal("SD1.5", q=1.1, k=0.9, v=1.2, out=1.1),
    "UNetSelfAttentionMultiply": equal("SD1.5", q=1.1, k=0.9, v=1.2, out=1.1),
    "UNetTemporalAttentionMultiply": equal("SD1.5", self_structural=0.9, self_temporal=1.1, cross_structural=1.2),
    # pictures that patches hold
    "AnimaLLLiteApply": equal(
        "Cosmos", model_patch=lambda: node_inputs.lllite(), image=PerWindow(canvas_image), mask=PerWindow(canvas_mask)
    ),
    "QwenImageDiffsynthControlnet": equal(
        "Qwen-Image", model_patch=lambda: node_inputs.diffsynth(), vae=Vae(16, 3), image=PerWindow(canvas_image)
    ),
    "SUPIRApply": equal(
        "SDXL", model_patch=lambda: node_inputs.supir(), vae=Vae(4), restore_cfg=PerWindow(supir_strength),
        image=PerWindow(lambda cut: canvas_image(cut, rows=8)),
    ),
    "USOStyleReference": equal(
        "Flux", run=ALONE, model_patch=lambda: node_inputs.siglip(),
        clip_vision_output=node_inputs.ClipVision(),
    ),
    "WanInfiniteTalkToVideo": refused(
        "Wan I2V", "MultiTalkApplyModelWrapper", run=ALONE, mode={"mode": "single_speaker"},
        model_patch=lambda: node_inputs.multitalk(), vae=Vae(16, 3), width=PerWindow(lambda cut: cut.pixels), height=32,
        length=5, audio_encoder_output_1=node_inputs.voice(), start_image=PerWindow(canvas_image),
        positive=lambda: tiny_families.prompt(1), negative=lambda: tiny_families.prompt(2),
    ),
    "WanUni3CControlnetApply": equal(
        "Wan", model_patch=lambda: node_inputs.uni3c(), vae=Vae(16, 3), render_video=PerWindow(canvas_image)
    ),
    "ZImageFunControlnet": equal(
        "Z-Image", model_patch=lambda: node_inputs.z_image_control(), vae=Vae(16), image=PerWindow(canvas_image)
    ),
    # weights
    "HypernetworkLoader": equal("SD1.5", hypernetwork_name="hypernetwork.pt"),
    "LoraLoader": equal("SD1.5", clip=None, **LORA),
    "LoraLoaderBypass": equal("SD1.5", clip=None, **LORA),
    "LoraLoaderBypassModelOnly": equal("SD1.5", **LORA),
    "LoraLoaderModelOnly": equal("SD1.5", **LORA),
    "LoraModelLoader": equal("SD1.5", lora=lambda: node_inputs.lora(), bypass=False),
    "ModelComputeDtype": equal("toy", acts=False, dtype="fp32"),
    "ModelMergeAdd": equal("SD1.5", **OTHER_UNET),
    "ModelMergeBlocks": equal("SD1.5", input=0.5, middle=0.4, out=0.3, **OTHER_UNET),
    "ModelMergeSimple": equal("SD1.5", ratio=0.5, **OTHER_UNET),
    "ModelMergeSubtract": equal("SD1.5", multiplier=0.5, **OTHER_UNET),
    "MultiGPU_WorkUnits": equal("toy", acts=False, max_gpus=1, why="on one device"),
    "SelectModelDevice": equal("toy", acts=False, device="cpu"),
    "wanBlockSwap": equal("toy", acts=False),
    # schedules
    "DifferentialDiffusion": equal("toy", acts=False, why="without a mask; with one: test_differential_diffusion"),
    "MiniMaxH3SigmaShift": equal("toy flow"),
    "ModelNoiseScale": equal("toy flow", noise_scale=2.0),
    "ModelSamplingAuraFlow": equal("SD3"),
    "ModelSamplingContinuousEDM": equal("toy", sampling="v_prediction"),
    "ModelSamplingContinuousV": equal("toy"),
    "ModelSamplingDiscrete": equal("toy", sampling="v_prediction"),
    "ModelSamplingFlux": equal("Flux", width=224, height=32),
    "ModelSamplingLTXV": equal("toy flow", latent=lambda: {"samples": torch.zeros(1, 4, 1, 4, 28)}),
    "ModelSamplingSD3": equal("SD3", shift=5.0),
    "ModelSamplingStableCascade": equal("toy"),
    # other ways to cut
    "ContextWindowsManual": refused("toy", BOTH_CUT),
    "LTXVContextWindows": refused("toy", BOTH_CUT),
    "WanContextWindowsManual": refused("toy", BOTH_CUT),
    # of other kinds of latents
    "ARVideoI2V": nothing("its latent is read by the sampler AR Video alone, which goes through time block by block"),
    "TripoSplatSamplingPreview": nothing("shows TripoSplat's latents, which are a set of points and have no long axis"),
}  # fmt: skip
ROWS |= {
    name: nothing(UNLIKE_MERGES)
    for name in (
        "ModelMergeAuraflow", "ModelMergeCosmos14B", "ModelMergeCosmos7B", "ModelMergeCosmosPredict2_14B",
        "ModelMergeCosmosPredict2_2B", "ModelMergeFlux1", "ModelMergeKrea2", "ModelMergeLTXV",
        "ModelMergeMochiPreview", "ModelMergeQwenImage", "ModelMergeSD1", "ModelMergeSD2", "ModelMergeSD35_Large",
        "ModelMergeSD3_2B", "ModelMergeSDXL", "ModelMergeWAN2_1",
    )
}  # fmt: skip


class AudioVae:
    """LTX's audio VAE, as far as the node needs it."""

    audio_sample_rate = 44100

    def encode(self, waveform):
        return torch.zeros(1, 4, 3, 2)
