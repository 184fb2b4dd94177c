"""Attention of Merge-Attend-Diffuse (Quattrini et al., 2024) in the networks of diffusers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.nn.functional import scaled_dot_product_attention

from ...safa_core import ViewPlan
from ...safa_core.methods.merge_attend import CanvasTokens, token_plan


@dataclass
class Merging:
    """An attention processor around each layer's own, for calls whose rows are [2, views, canvases], 2 of guidance.

    Self-attention runs on the canvas while `early` is set, queries of cross-attention are merged always. What enters
    to_q, to_k and to_v is merged in place of what leaves them: they are affine maps of single tokens.

    size: a view's latent as the network has it. axis: which of the two is the long one.
    """

    plan: ViewPlan
    size: tuple[int, int]
    axis: int = 0
    early: bool = True
    levels: dict[int, CanvasTokens] = field(default_factory=dict)

    def tokens(self, states: torch.Tensor) -> CanvasTokens:
        """Merging at the level of the network that has the tokens of `states` [N, tokens, C] per view."""
        count = states.shape[1]
        if count not in self.levels:
            factor = round((self.size[0] * self.size[1] / count) ** 0.5)
            grid = (self.size[0] // factor, self.size[1] // factor)
            self.levels[count] = CanvasTokens(token_plan(self.plan, factor), grid, self.axis, states.device)
        return self.levels[count]

    def views(self, states: torch.Tensor) -> torch.Tensor:
        """Rows of a call [2 * views * canvases, ...] -> [views, 2 * canvases, ...]."""
        return states.unflatten(0, (2, len(self.plan), -1)).transpose(0, 1).flatten(1, 2)

    def rows(self, views: torch.Tensor) -> torch.Tensor:
        """The inverse of `views`."""
        return views.unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 2)

    def run(self, layers_own, attn, states, encoder_hidden_states=None, attention_mask=None, **more):
        """The processor, around `layers_own`."""
        cross = encoder_hidden_states is not None
        if not cross and not self.early:
            return layers_own(attn, states, None, attention_mask, **more)
        tokens = self.tokens(states)
        canvas = tokens.merge(self.views(states).float()).to(states.dtype)
        if cross:
            queries = self.rows(tokens.crop(canvas))
            return layers_own(attn, queries, encoder_hidden_states, attention_mask, **more)
        canvas = layers_own(attn, canvas, None, attention_mask, **more)
        return self.rows(tokens.crop(canvas))


@dataclass
class JointMerging(Merging):
    """For Stable Diffusion 3's transformer: the pictures' tokens of all views attend as one canvas.

    A view's queries, of its text and of its part of the canvas, see its own text and the whole canvas. The q and k
    that merge are the normalised ones. After the early steps nothing merges: there is no cross-attention.
    """

    def run(self, layers_own, attn, states, encoder_hidden_states=None, attention_mask=None, **more):
        """The processor, around `layers_own` (diffusers' JointAttnProcessor2_0)."""
        if not self.early:
            return layers_own(attn, states, encoder_hidden_states, attention_mask, **more)
        tokens = self.tokens(states)
        projected = _projected(attn, states, (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k))
        canvas = [tokens.merge(self.views(part).float()).to(part.dtype) for part in projected]
        if encoder_hidden_states is None:
            views = self.rows(tokens.crop(_attend(attn, *canvas)))
            return attn.to_out[1](attn.to_out[0](views))
        added = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        projected = _projected(attn, encoder_hidden_states, added, (attn.norm_added_q, attn.norm_added_k))
        text = [self.views(part) for part in projected]
        queries = torch.cat([tokens.crop(canvas[0]), text[0]], 2)
        attended = []
        for i in range(len(self.plan)):
            keys = torch.cat([canvas[1], text[1][i]], 1)
            values = torch.cat([canvas[2], text[2][i]], 1)
            attended.append(_attend(attn, queries[i], keys, values))
        views = self.rows(torch.stack(attended))
        pictures, words = views.split([states.shape[1], encoder_hidden_states.shape[1]], 1)
        words = words if attn.context_pre_only else attn.to_add_out(words)
        return attn.to_out[1](attn.to_out[0](pictures)), words


def _projected(attn, states, layers, norms) -> list[torch.Tensor]:
    """q, k and v of tokens [N, tokens, C], q and k normalised head by head where the layer does."""
    projected = [layer(states) for layer in layers]
    for i, norm in enumerate(norms):
        if norm is not None:
            projected[i] = norm(projected[i].unflatten(2, (attn.heads, -1))).flatten(2)
    return projected


def _attend(attn, *qkv: torch.Tensor) -> torch.Tensor:
    """Attention of q [N, n, C] to k and v [N, m, C], head by head."""
    heads = (part.unflatten(2, (attn.heads, -1)).transpose(1, 2) for part in qkv)
    return scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
