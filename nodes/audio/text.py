"""Text encoders of the audio families with the interface of the host's CLIP: token ids in, conditioning out.

Every prompt is encoded in its own length and, where the model attends to its tokens, padded under a mask only when
the host batches prompts of unequal length (model.TokenCond). AudioLDM2's pipeline pads the negative prompt to
the positive one's length before GPT-2, which moves the negative's positions; the authors' own code does not.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerBase

import comfy.model_management
import comfy.sd
from comfy.supported_models_base import ClipTarget

from ..node_text import show_text
from .folder import NAME
from .host_ops import use_host_ops

LONGEST = 512  # tokens; Flan-T5 has no limit of its own, its checkpoints name this one
GENERATED = "audioldm2_t5"  # cond key: T5's hidden states beside GPT-2's
FEW_WORDS = 2000  # a vocabulary up to this size is one of whole words
FEW_LISTED = 120  # and up to this one short enough to be listed in a message


def unknown_words(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The words of a prompt that a small vocabulary does not hold, in the prompt's spelling.

    Those that it reads as "unknown", letter by letter, or in more than a known word and an ending. Empty for a
    tokenizer of many pieces, which spells out every word.
    """
    if tokenizer.unk_token_id is None or len(tokenizer) > FEW_WORDS or not tokenizer.is_fast:
        return []
    encoded = tokenizer(text, return_offsets_mapping=True)
    words: dict[int, list[int]] = {}
    for place, word in enumerate(encoded.word_ids()):
        if word is not None:
            words.setdefault(word, []).append(place)
    unknown = []
    for places in words.values():
        word = text[encoded.offset_mapping[places[0]][0] : encoded.offset_mapping[places[-1]][1]]
        tokens = tokenizer.convert_ids_to_tokens([encoded.input_ids[place] for place in places])
        spelled = tokens[-1].startswith("##") and (len(tokens) > 2 or len(tokens[0]) == 1)
        if (tokenizer.unk_token in tokens or spelled) and any(map(str.isalnum, word)):
            unknown.append(word)
    return list(dict.fromkeys(unknown))


def describe_words(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """What a model of few words made of a prompt, in one or two sentences; empty where it took every word as it is.

    A tokenizer's configuration may hold `kinds`: {word: the kind of sound that it means}.
    """
    said = []
    unknown = unknown_words(tokenizer, text)
    if unknown:
        special = set(tokenizer.all_special_tokens)
        known = sorted(word for word in tokenizer.get_vocab() if word not in special and word[:1].isalnum())
        known = [word for word in known if len(word) > 1 or len(known) <= FEW_LISTED]
        said.append(f"unknown to this model: {', '.join(unknown)}.")
        listed = (
            f"few words, these {len(known)}: {', '.join(known)}" if len(known) <= FEW_LISTED else f"{len(known)} words"
        )
        said.append(f"It knows {listed}.")
    heard: dict[str, list[str]] = {}
    kinds = tokenizer.init_kwargs.get("kinds")
    kinds = kinds if isinstance(kinds, dict) else {}
    for word in dict.fromkeys(re.findall(r"\w+", text.lower())):
        kind = kinds.get(word)
        if isinstance(kind, str) and kind and not word.startswith(kind[:4]):
            heard.setdefault(kind, []).append(word)
    if heard:
        said.append("; ".join(f"{', '.join(words)}: heard as {kind}" for kind, words in heard.items()) + ".")
    return " ".join(said)


class TextTokenizer:
    """The host's tokenizer interface over the libraries' own: the prompt is taken literally, brackets too."""

    def __init__(self, **tokenizers: PreTrainedTokenizerBase):
        self.tokenizers = tokenizers

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> dict:
        """{"clap" or "t5": [[(id, 1.0), ...]]}, unpadded; with word ids (id, 1.0, 0)."""
        tail = (1.0, 0) if return_word_ids else (1.0,)
        tokens = {}
        for name in self.tokenizers:
            tokens[name] = [[(token, *tail) for token in self._ids(name, text)]]
        return tokens

    def _ids(self, name: str, text: str) -> list[int]:
        tokenizer = self.tokenizers[name]
        self._warn(describe_words(tokenizer, text))
        longest = min(tokenizer.model_max_length, LONGEST)
        ids = tokenizer(text).input_ids
        if len(ids) <= longest:
            return ids
        logging.warning(f"{NAME}: the prompt has {len(ids)} {name} tokens; the model reads the first {longest}.")
        return tokenizer(text, max_length=longest, truncation=True).input_ids

    def _warn(self, sentence: str) -> None:
        """Show a sentence on the node that encodes the prompt, which is one of the host's, and in the log."""
        if not sentence:
            return
        show_text(sentence)
        logging.warning(f"{NAME}: {sentence}")

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        return next(iter(self.tokenizers.values())).decode(token_ids, skip_special_tokens=skip_special_tokens)

    def untokenize(self, token_weight_pair: list[tuple]) -> list[tuple]:
        tokenizer = next(iter(self.tokenizers.values()))
        return [(pair, tokenizer.convert_ids_to_tokens(pair[0])) for pair in token_weight_pair]

    def state_dict(self) -> dict:
        return {}


class TextEncoder(torch.nn.Module):
    """A text encoder with the interface that the host's CLIP calls.

    `encode_token_weights(tokens)` gives (cond [1, L, D], pooled_output [1, D] or None), and where there are more
    conditions a dictionary of them.
    """

    dtypes = {torch.float32}
    manual_cast_dtype = None

    def __init__(self) -> None:
        super().__init__()
        self.execution_device = None

    def set_clip_options(self, options: dict) -> None:
        self.execution_device = options.get("execution_device", self.execution_device)

    def reset_clip_options(self) -> None:
        self.execution_device = None

    def _ids(self, tokens: dict, name: str) -> torch.Tensor:
        device = self.execution_device or comfy.model_management.text_encoder_device()
        return torch.tensor([[token[0] for token in tokens[name][0]]], device=device)

    def _out(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(comfy.model_management.intermediate_device())


def _clap_embedding(clap: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """L2-normalised text projection [B, D] of ids [B, L].

    The pipelines pad to 512 tokens under a mask, which changes only the time it takes.
    """
    return F.normalize(clap(ids, attention_mask=torch.ones_like(ids)).text_embeds, dim=-1)


class ClapText(TextEncoder):
    """AudioLDM and MusicLDM: one vector per prompt, as cond [1, 1, D] and as pooled_output [1, D]."""

    def __init__(self, clap: torch.nn.Module):
        super().__init__()
        self.clap = clap

    def encode_token_weights(self, tokens: dict) -> tuple:
        embedding = self._out(_clap_embedding(self.clap, self._ids(tokens, "clap")))
        return embedding[:, None], embedding


class T5Text(TextEncoder):
    """Tango: T5's hidden states [1, L, D]."""

    def __init__(self, t5: torch.nn.Module):
        super().__init__()
        self.t5 = t5

    def encode_token_weights(self, tokens: dict) -> tuple:
        ids = self._ids(tokens, "t5")
        return self._out(self.t5(input_ids=ids, attention_mask=torch.ones_like(ids))[0]), None


class GeneratedText(TextEncoder):
    """AudioLDM2: GPT-2's continuation [1, `count`, D] of CLAP and T5, and T5's hidden states [1, L, D1] beside it."""

    def __init__(
        self,
        clap: torch.nn.Module,
        t5: torch.nn.Module,
        projection: torch.nn.Module,
        gpt2: torch.nn.Module,
        count: int,
    ):
        super().__init__()
        self.clap = clap
        self.t5 = t5
        self.projection = projection
        self.gpt2 = gpt2
        self.count = count

    def encode_token_weights(self, tokens: dict) -> tuple:
        clap = _clap_embedding(self.clap, self._ids(tokens, "clap"))[:, None]
        ids = self._ids(tokens, "t5")
        mask = torch.ones_like(ids)
        hidden = self.t5(input_ids=ids, attention_mask=mask)[0]
        joined = self.projection(
            hidden_states=clap,
            hidden_states_1=hidden,
            attention_mask=torch.ones_like(ids[:, :1]),
            attention_mask_1=mask,
        )
        generated = self._continue(joined.hidden_states, joined.attention_mask)
        return self._out(generated), None, {GENERATED: self._out(hidden)}

    def _continue(self, embeds: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """GPT-2's next `count` hidden states, each the next step's input (AudioLDM2, section 3.2)."""
        cache = None
        step = embeds
        for _ in range(self.count):
            out = self.gpt2(inputs_embeds=step, attention_mask=mask, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            step = out.last_hidden_state[:, -1:]
            embeds = torch.cat([embeds, step], 1)
            mask = F.pad(mask, (0, 1), value=1)
        return embeds[:, -self.count :]


def host_clip(text: TextEncoder, tokenizer: TextTokenizer) -> comfy.sd.CLIP:
    """The host's own CLIP around a text module.

    Weights stay float32: Flan-T5 overflows in float16, and a prompt is encoded once.
    """
    use_host_ops(text, torch.float32, None)
    target = ClipTarget(lambda **_: tokenizer, lambda **_: text)
    parameters = sum(p.numel() for p in text.parameters())
    return comfy.sd.CLIP(target, parameters=parameters, model_options={"dtype": torch.float32})
