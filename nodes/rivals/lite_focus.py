"""LiteFocus (arXiv:2407.10468) as a node: less self-attention in UNets over time and frequency, for long sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from comfy.ldm.modules.attention import SpatialVideoTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from comfy.samplers import CFGGuider
from comfy_api.latest import io

from ...safa_core.methods.lite_focus import CrossFrequency, TokenGrid, focus_attention
from ..audio.latent import AudioLatent
from ..errors import named
from ..sockets import CATEGORY
from .attention_levels import diffusers_attention, host_attention
from .attention_swap import Processor, claim_self_attention, swap_attention, token_grid

NAME = "LiteFocus"
KEY = "safa_lite_focus"
FAMILIES = "AudioLDM, AudioLDM2, MusicLDM, Tango, or a Stable Diffusion whose pictures are spectrograms (Riffusion)"


class ModelCalls:
    """Counts a sampling's model calls, each of which draws other random tokens.

    Calls of the network will not do: their number depends on how the host cuts its batches to the free memory.
    """

    def __init__(self) -> None:
        self.last = -1

    @staticmethod
    def start(
        executor: WrapperExecutor, guider: CFGGuider, sigmas: torch.Tensor, extra_args: dict, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """SAMPLER_SAMPLE wrapper: count from the first call."""
        extra_args["model_options"]["transformer_options"][KEY] = ModelCalls()
        return executor(guider, sigmas, extra_args, *args, **kwargs)

    @staticmethod
    def count(
        executor: WrapperExecutor, x: torch.Tensor, timestep: torch.Tensor, model_options: dict, seed: int | None
    ) -> torch.Tensor:
        """PREDICT_NOISE wrapper: one call more."""
        calls = model_options.get("transformer_options", {}).get(KEY)
        if calls is not None:
            calls.last += 1
        return executor(x, timestep, model_options, seed)

    @staticmethod
    def current(transformer_options: dict) -> int:
        """Number of the current call, from 0."""
        calls = transformer_options.get(KEY)
        return 0 if calls is None else max(0, calls.last)


@dataclass(frozen=True)
class FocusProcessor:
    """LiteFocus as a processor of one of diffusers' attention layers.

    original: the layer's own processor, for attention to a prompt. size: the latent's [T, F]. call, place: which
    permutation (`CrossFrequency.picked`).
    """

    original: Processor
    size: tuple[int, int]
    random: CrossFrequency
    call: int
    place: int

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Output [B, N, C] of the layer `attn` for hidden_states [B, N, C]."""
        if encoder_hidden_states is not None:
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        count = hidden_states.shape[1]
        picked = self.random.picked(count, self.call, self.place).to(hidden_states.device, non_blocking=True)
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        out = focus_attention(q, k, v, attn.heads, TokenGrid(*token_grid(count, self.size)), picked)
        return attn.to_out[1](attn.to_out[0](out))


@dataclass(frozen=True)
class HostFocus:
    """LiteFocus in place of attn1 of the host's UNets: rows are frequencies, columns are time.

    place: which permutation (`CrossFrequency.picked`).
    """

    random: CrossFrequency
    place: int

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra_options: dict) -> torch.Tensor:
        """Attention [B, N, C] of projected q, k, v [B, N, C], by the attention function that the host chose."""
        rows, columns = extra_options["activations_shape"][2:]
        if not q.shape[1] == k.shape[1] == rows * columns:
            raise ValueError(
                f"{NAME}: expected the {rows * columns} tokens of {rows} x {columns} places, got {q.shape[1]} queries "
                f"and {k.shape[1]} keys; another node (token merging, HyperTile, reference attention) changes them, "
                "remove it."
            )
        picked = self.random.picked(k.shape[1], ModelCalls.current(extra_options), self.place)

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
            return optimized_attention(
                q, k, v, heads, attn_precision=extra_options["attn_precision"], transformer_options=extra_options
            )

        grid, picked = TokenGrid(columns, rows, frequency_first=True), picked.to(q.device, non_blocking=True)
        return focus_attention(q, k, v, extra_options["n_heads"], grid, picked, attend)


def diffusers_levels(unet: torch.nn.Module) -> dict[str, int]:
    """Downsampling of each layer of a diffusers UNet that can be self-attention, by name."""
    # attn2 without a prompt of its own is self-attention too (AudioLDM), which only its call tells
    return {
        level.place: level.factor
        for level in diffusers_attention(unet)
        if level.place.endswith(".attn2") or (level.place.endswith(".attn1") and not level.layer.is_cross_attention)
    }


def host_levels(unet: UNetModel) -> dict[tuple[str, int], int]:
    """Downsampling of each block of the host's UNet that has self-attention, by the host's (name, number)."""
    return {
        level.place: level.factor
        for level in host_attention(unet)
        if not level.layer.transformer_blocks[0].disable_self_attn
    }


def wanted_levels(levels: str, known: set[int]) -> set[int]:
    """The downsampling factors that `levels` names; refuses others than the model's (ValueError)."""
    names = {name.strip() for name in levels.split(",")}
    if names != {"all"} and not all(name.isascii() and name.isdecimal() for name in names):
        raise ValueError(f"expected `levels` to be downsampling factors such as 2 or 1, 2, or all, got {levels!r}.")
    wanted = known if names == {"all"} else {int(name) for name in names}
    if not wanted or wanted - known:
        has = f"at downsampling {', '.join(map(str, sorted(known)))}" if known else "nowhere"
        raise ValueError(f"expected `levels` with self-attention, got {levels!r}; this model has it {has}.")
    return wanted


def patch_model(model: ModelPatcher, random: CrossFrequency, levels: str) -> ModelPatcher:
    """A clone of a host MODEL with LiteFocus; refuses models without frequencies in their attention (ValueError)."""
    unet = model.get_model_object("diffusion_model")
    audio = isinstance(model.get_model_object("latent_format"), AudioLatent)
    video = any(isinstance(layer, SpatialVideoTransformer) for layer in unet.modules())
    if not audio and (video or not isinstance(unet, UNetModel)):
        raise ValueError(
            f"expected a UNet over time and frequency ({FAMILIES}), got {type(unet).__name__}, whose "
            "self-attention has no frequencies to focus on; connect the model without this node."
        )
    patched = model.clone()
    claim_self_attention(patched, NAME)
    if audio:
        _patch_diffusers(patched, unet, random, levels)
    else:
        _patch_host(patched, unet, random, levels)
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, ModelCalls.start)
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, ModelCalls.count)
    return patched


def _patch_diffusers(patched: ModelPatcher, unet: torch.nn.Module, random: CrossFrequency, levels: str) -> None:
    known = diffusers_levels(unet)
    wanted = wanted_levels(levels, set(known.values()))
    places = [name for name, factor in known.items() if factor in wanted]

    def choose(layers: dict, x: torch.Tensor, transformer_options: dict) -> dict:
        call = ModelCalls.current(transformer_options)
        return {
            name: FocusProcessor(layers[name].processor, tuple(x.shape[2:]), random, call, place)
            for place, name in enumerate(places)
        }

    swap_attention(patched, KEY, choose)


def _patch_host(patched: ModelPatcher, unet: UNetModel, random: CrossFrequency, levels: str) -> None:
    known = host_levels(unet)
    wanted = wanted_levels(levels, set(known.values()))
    places = [block for block, factor in known.items() if factor in wanted]
    replaced = patched.model_options["transformer_options"].get("patches_replace", {}).get("attn1", {})
    blocks = {other[:2] for other in replaced}  # (name, number) with or without the transformer's number
    taken = [block for block in places if block in blocks]
    if taken:
        raise ValueError(
            f"another node on this model already replaces the self-attention of {taken[0][0]} block "
            f"{taken[0][1]}; remove it or choose other levels."
        )
    for place, block in enumerate(places):
        patched.set_model_attn1_replace(HostFocus(random, place), *block)


class SaFaLiteFocus(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaLiteFocus",
            display_name=NAME,
            category=CATEGORY,
            description=(
                "Faster long sound: in self-attention, a place sees its own frequency at all times and a few random "
                f"places, not everything (arXiv:2407.10468). For {FAMILIES}, in one long window or under SaFa."
            ),
            search_aliases=["safa", "litefocus", "sparse attention", "faster audio", "speed", "long audio"],
            inputs=[
                io.Model.Input("model", tooltip="The model; before or after SaFa Model Patch."),
                io.Float.Input(
                    "rho",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of all places that every place sees besides its own frequency. 0.1 in the paper; "
                    "more is slower and nearer to full attention.",
                ),
                io.String.Input(
                    "levels",
                    default="2",
                    tooltip="Which levels of the UNet, as downsampling factors with commas between (1, 2), or all. 2 "
                    "in the paper.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    tooltip="Seed of the random places, which are others at each step and layer.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="Connect to the sampler or to SaFa Model Patch.")],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, rho: float, levels: str, seed: int) -> io.NodeOutput:
        with named(NAME):
            patched = patch_model(model, CrossFrequency(rho, seed), levels)
        return io.NodeOutput(patched)
