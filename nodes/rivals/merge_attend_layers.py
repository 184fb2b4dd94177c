"""The attention layers of the networks that Merge-Attend-Diffuse knows, with q, k and v of all views merged.

Three kinds: the host's UNets (their own attention patches), diffusers' UNets (attention_swap.py) and MMDiT (the host's
override of the attention function).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch

from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ...safa_core.methods.merge_attend import CanvasTokens, token_plan
from ...safa_core.plan import ViewPlan
from .attention_levels import diffusers_attention, host_attention
from .attention_swap import Processor, is_diffusers, token_grid


@dataclass(frozen=True)
class MergedBatch:
    """Which items of one model call are which view, and how their tokens are merged.

    plan:     ViewPlan in latent columns. axis: the long one of a latent's two, 0 or 1.
    size:     a view's latent [rows, columns].
    conds:    how many conds (prompts) the host put into the call. windows: of each, the views first, then what is in
              no canvas (the reference), which is attended to as always. batch: pictures of each window.
    merging:  whether self-attention merges at this step; queries of cross-attention always do.
    device:   where the model runs.
    """

    plan: ViewPlan
    axis: int
    size: tuple[int, int]
    conds: int
    windows: int
    batch: int
    merging: bool
    device: torch.device

    @cached_property
    def _items(self) -> torch.Tensor:
        """Number of every item: [windows, conds * batch], int64."""
        shape = (self.conds, self.windows, self.batch)
        items = torch.arange(math.prod(shape), device=self.device).reshape(shape)
        return items.movedim(1, 0).flatten(1)

    @property
    def views(self) -> torch.Tensor:
        """Items of each view: [views, conds * batch], int64."""
        return self._items[: len(self.plan)]

    @property
    def others(self) -> torch.Tensor:
        """Items of no canvas: [n], int64."""
        return self._items[len(self.plan) :].flatten()

    def canvas_tokens(self, grid: tuple[int, int], like: torch.Tensor) -> CanvasTokens:
        """Merging at a level of the network that has this grid of tokens per view; ValueError where views split one."""
        factor, rest = divmod(self.size[self.axis], grid[self.axis])
        if rest:
            raise ValueError(
                f"Expected tokens of whole latent columns, got {grid[self.axis]} for {self.size[self.axis]} columns."
            )
        return _canvas_tokens(self.plan, factor, grid, self.axis, like.device, like.dtype)

    def split_views(self, items: torch.Tensor) -> torch.Tensor:
        """[items, ...] -> [views, conds * batch, ...]."""
        return items[self.views]

    def join_views(self, views: torch.Tensor, others: torch.Tensor | None) -> torch.Tensor:
        """The inverse of `split_views`, with the items that belong to no canvas, if any."""
        out = views.new_empty(self._items.numel(), *views.shape[2:])
        out[self.views.flatten()] = views.flatten(0, 1)
        if others is not None:
            out[self.others] = others
        return out

    def average_views(self, items: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Tokens [items, n, C] after merging and cutting out again: each view has its share of the canvas's mean."""
        if len(items) != self._items.numel():
            raise ValueError(f"Expected {self._items.numel()} items in an attention layer, got {len(items)}.")
        tokens = self.canvas_tokens(grid, items)
        views = tokens.crop(tokens.merge(self.split_views(items)))
        return self.join_views(views, items[self.others] if len(self.others) else None)

    def attend_on_canvas(
        self, attend: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...], grid: tuple[int, int]
    ) -> torch.Tensor:
        """Self-attention on the canvas: attend(*inputs) for inputs [items, n, C], cut into views again."""
        tokens = self.canvas_tokens(grid, inputs[0])
        canvas = attend(*(tokens.merge(self.split_views(i)) for i in inputs))
        others = attend(*(i[self.others] for i in inputs)) if len(self.others) else None
        return self.join_views(tokens.crop(canvas), others)


@lru_cache(maxsize=32)  # every layer of a level needs the same, at every step
def _canvas_tokens(
    plan: ViewPlan, factor: int, grid: tuple[int, int], axis: int, device: torch.device, dtype: torch.dtype
) -> CanvasTokens:
    return CanvasTokens(token_plan(plan, factor), grid, axis, device, dtype)


# ---- Which networks, and how coarse their attention is ----


def attention_factors(network: torch.nn.Module) -> set[int]:
    """Latent columns per token at every attention layer; none for a network that cannot be merged."""
    if isinstance(network, MMDiT):
        return {network.patch_size}
    if isinstance(network, UNetModel):
        transformers = host_attention(network)
        mergeable = all(_attends_to_itself_and_text(level.layer) for level in transformers)
        return {level.factor for level in transformers} if mergeable else set()
    if is_diffusers(network):
        layers = diffusers_attention(network)
        mergeable = all(_is_tokenwise(level.place, level.layer) for level in layers)
        return {level.factor for level in layers} if mergeable else set()
    return set()


def _attends_to_itself_and_text(transformer: SpatialTransformer) -> bool:
    """Whether all its blocks have self- and cross-attention, and it is not the one for video."""
    if type(transformer) is not SpatialTransformer:
        return False
    return not any(block.disable_self_attn or block.attn2 is None for block in transformer.transformer_blocks)


def _is_tokenwise(name: str, layer: torch.nn.Module) -> bool:
    """Whether nothing but attention itself mixes tokens, so that merging inputs is merging q, k and v."""
    mixes = (layer.group_norm, layer.spatial_norm, layer.norm_q, layer.norm_k)
    return name.endswith((".attn1", ".attn2")) and not any(mixes) and not layer.residual_connection


# ---- The host's UNets ----

BATCH = "safa_merged_batch"  # in transformer_options: MergedBatch of this model call


def host_unet_options(network: UNetModel, batch: MergedBatch, options: dict) -> dict:
    """The host's transformer_options with merging attention in every block that another node has not replaced."""
    patches = options.get("patches", {})
    replaced = options.get("patches_replace", {})
    options = {
        **options,
        BATCH: batch,
        "patches": {**patches, "attn2_patch": [*patches.get("attn2_patch", []), _merge_queries]},
    }
    if batch.merging:
        blocks = [("input", n) for n in range(len(network.input_blocks))] + [("middle", 0)]
        blocks += [("output", n) for n in range(len(network.output_blocks))]
        merging = dict.fromkeys(blocks, _attend_on_canvas)
        options["patches_replace"] = {**replaced, "attn1": {**merging, **replaced.get("attn1", {})}}
    return options


def _grid(options: dict) -> tuple[int, int]:
    return tuple(options["activations_shape"][2:])


def _attend_on_canvas(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict) -> torch.Tensor:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        precision = options["attn_precision"]
        return optimized_attention(q, k, v, options["n_heads"], attn_precision=precision, transformer_options=options)

    return options[BATCH].attend_on_canvas(attend, (q, k, v), _grid(options))


def _merge_queries(n: torch.Tensor, context: Any, value: Any, options: dict) -> tuple[torch.Tensor, Any, Any]:
    """Before `to_q`, an affine map; keys and values stay each view's own."""
    return options[BATCH].average_views(n, _grid(options)), context, value


# ---- diffusers' UNets ----


def diffusers_processors(layers: dict[str, torch.nn.Module], batch: MergedBatch) -> dict[str, Processor]:
    """A merging processor for every attention layer, around its original one."""
    return {name: _MergingProcessor(layer.processor, batch) for name, layer in layers.items()}


@dataclass(frozen=True)
class _MergingProcessor:
    """Merges the inputs of to_q, to_k and to_v, affine maps, and cuts after to_out, another one."""

    original: Processor
    batch: MergedBatch

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        grid = token_grid(hidden_states.shape[1], self.batch.size)
        if encoder_hidden_states is not None:
            queries = self.batch.average_views(hidden_states, grid)
            return self.original(attn, queries, encoder_hidden_states, attention_mask, **kwargs)

        def attend(tokens: torch.Tensor) -> torch.Tensor:
            return self.original(attn, tokens, None, attention_mask, **kwargs)

        if not self.batch.merging:
            return attend(hidden_states)
        return self.batch.attend_on_canvas(attend, (hidden_states,), grid)


# ---- MMDiT ----


def mmdit_options(network: MMDiT, batch: MergedBatch, options: dict) -> dict:
    """The host's transformer_options with the picture's tokens merged in joint attention.

    Text tokens stay each view's own: a view's queries see its own text and the whole canvas. There is no
    cross-attention, so nothing merges after the merging steps. The q and k that merge are the normalised ones.
    """
    if not batch.merging:
        return options
    before, patch = options.get("optimized_attention_override"), network.patch_size
    grid = tuple((n + patch - 1) // patch for n in batch.size)

    def override(
        function: Callable, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            if before is not None:
                return before(function, q, k, v, heads, *args, **kwargs)
            return function(q, k, v, heads, *args, **kwargs)

        q, k, v = (t.flatten(2) for t in (q, k, v))  # the host leaves the heads of v apart
        if q.shape[1] == grid[0] * grid[1]:  # SD3.5's attention among the picture's tokens alone
            return batch.attend_on_canvas(attend, (q, k, v), grid)
        return _joint_attention(batch, attend, (q, k, v), grid)

    return {**options, "optimized_attention_override": override}


def _joint_attention(
    batch: MergedBatch,
    attend: Callable[..., torch.Tensor],
    qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    grid: tuple[int, int],
) -> torch.Tensor:
    text = qkv[0].shape[1] - grid[0] * grid[1]
    tokens = batch.canvas_tokens(grid, qkv[0])
    words = [batch.split_views(t[:, :text]) for t in qkv]
    canvas = [tokens.merge(batch.split_views(t[:, text:])) for t in qkv]
    queries = torch.cat([words[0], tokens.crop(canvas[0])], dim=2)
    views = []
    for i, query in enumerate(queries):
        key, value = (torch.cat([w[i], c], dim=1) for w, c in zip(words[1:], canvas[1:], strict=True))
        views.append(attend(query, key, value))
    others = attend(*(t[batch.others] for t in qkv)) if len(batch.others) else None
    return batch.join_views(torch.stack(views), others)
