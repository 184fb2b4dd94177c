"""Merge-Attend-Diffuse on Stable Diffusion 3's transformer, where pictures and text attend together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from ..mad import Merging


@dataclass
class JointMerging(Merging):
    """The pictures' tokens of all views attend as one canvas; each view's text stays its own.

    A view's queries, of its text and of its part of the canvas, see its own text and the whole canvas. The q and k
    that merge are the normalised ones. After the early steps nothing merges: there is no cross-attention.
    """

    def run(self, own, attn, states, encoder_hidden_states=None, attention_mask=None, **more):
        """The processor: own is the layer's (diffusers' JointAttnProcessor2_0)."""
        if not self.early:
            return own(attn, states, encoder_hidden_states, attention_mask, **more)
        tokens = self.on(states)
        projected = _projected(attn, states, (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k))
        canvas = [tokens.merge(self.views(part).float()).to(part.dtype) for part in projected]
        if encoder_hidden_states is None:
            views = self.rows(tokens.crop(_attend(attn, *canvas)))
            return attn.to_out[1](attn.to_out[0](views))
        added = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        text = [
            self.views(part)
            for part in _projected(attn, encoder_hidden_states, added, (attn.norm_added_q, attn.norm_added_k))
        ]
        queries = torch.cat([tokens.crop(canvas[0]), text[0]], 2)
        keys, values = (
            [torch.cat([whole, one], 1) for one in own_text]
            for whole, own_text in zip(canvas[1:], text[1:], strict=True)
        )
        views = torch.stack([_attend(attn, *qkv) for qkv in zip(queries, keys, values, strict=True)])
        pictures, words = self.rows(views).split([states.shape[1], encoder_hidden_states.shape[1]], 1)
        words = words if attn.context_pre_only else attn.to_add_out(words)
        return attn.to_out[1](attn.to_out[0](pictures)), words


def _projected(attn, states, layers, norms) -> list[torch.Tensor]:
    """q, k and v of tokens [N, tokens, C], q and k normalised head by head where the layer does."""
    found = [layer(states) for layer in layers]
    for i, norm in enumerate(norms):
        if norm is not None:
            found[i] = norm(found[i].unflatten(2, (attn.heads, -1))).flatten(2)
    return found


def _attend(attn, *qkv: torch.Tensor) -> torch.Tensor:
    """Attention of q [N, n, C] to k and v [N, m, C], head by head."""
    heads = (part.unflatten(2, (attn.heads, -1)).transpose(1, 2) for part in qkv)
    return scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
