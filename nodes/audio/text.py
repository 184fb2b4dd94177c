"""Text encoders of the audio families, as the host's CLIP knows them: token ids in, conditioning out.

Every prompt is encoded in its own length and, where the model attends to its tokens, padded under a mask only when
the host batches prompts of unequal length (audio_model.TokenCond). AudioLDM2's pipeline pads the negative prompt to
the positive one's length before GPT-2, which moves the negative's positions; the authors' own code does not.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace

import torch
import torch.nn.functional as F

import comfy.model_management
import comfy.sd
from comfy.supported_models_base import ClipTarget
from comfy_execution.utils import get_executing_context

from ..node_text import show_text
from .folder import WHO
from .host_ops import use_host_ops

LONGEST = 512  # tokens; Flan-T5 has no limit of its own, its checkpoints name this one
GENERATED = "audioldm2_t5"  # cond key: T5's hidden states beside GPT-2's
FEW_WORDS = 2000  # a vocabulary up to this size is short enough to be told


def unknown_words(tokenizer, text: str) -> list[str]:
    """The words of a prompt that the tokenizer has no other token for than "unknown", in the prompt's spelling.

    Empty for tokenizers that spell a word they do not know: only a small vocabulary of whole words is meant.
    """
    if tokenizer.unk_token_id is None or len(tokenizer) > FEW_WORDS or not tokenizer.is_fast:
        return []
    read = tokenizer(text, return_offsets_mapping=True)
    spans = [span for i, span in zip(read.input_ids, read.offset_mapping, strict=True) if i == tokenizer.unk_token_id]
    pieces = dict.fromkeys(text[start:end] for start, end in spans)
    return [piece for piece in pieces if any(character.isalnum() for character in piece)]


def told_unknown(tokenizer, text: str) -> str:
    """What is said about the unknown words of a prompt: which, and the words there are; empty where all are known."""
    unknown = unknown_words(tokenizer, text)
    if not unknown:
        return ""
    special = set(tokenizer.all_special_tokens)
    known = sorted(word for word in tokenizer.get_vocab() if word not in special and word[:1].isalnum())
    return f"unknown to this model: {', '.join(unknown)}. It knows few words, these {len(known)}: {', '.join(known)}."


class TextTokenizer:
    """The host's tokenizer interface over the libraries' own: the prompt is taken literally, brackets too."""

    def __init__(self, **tokenizers):
        self.tokenizers = tokenizers

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs) -> dict:
        """{"clap" or "t5": [[(id, 1.0), ...]]}, unpadded; with word ids (id, 1.0, 0)."""
        tail = (1.0, 0) if return_word_ids else (1.0,)
        return {name: [[(i, *tail) for i in self._ids(name, text)]] for name in self.tokenizers}

    def _ids(self, name, text):
        tokenizer = self.tokenizers[name]
        self._tell(told_unknown(tokenizer, text))
        longest = min(tokenizer.model_max_length, LONGEST)
        ids = tokenizer(text).input_ids
        if len(ids) <= longest:
            return ids
        logging.warning(f"{WHO}: the prompt has {len(ids)} {name} tokens; the model reads the first {longest}.")
        return tokenizer(text, max_length=longest, truncation=True).input_ids

    def _tell(self, sentence):
        """On the node that encodes the prompt, which is one of the host's."""
        running = get_executing_context()
        if sentence and running is not None:
            show_text(SimpleNamespace(unique_id=running.node_id), sentence)
        if sentence:
            logging.warning(f"{WHO}: {sentence}")

    def decode(self, token_ids, skip_special_tokens=True) -> str:
        return next(iter(self.tokenizers.values())).decode(token_ids, skip_special_tokens=skip_special_tokens)

    def untokenize(self, token_weight_pair):
        tokenizer = next(iter(self.tokenizers.values()))
        return [(pair, tokenizer.convert_ids_to_tokens(pair[0])) for pair in token_weight_pair]

    def state_dict(self) -> dict:
        return {}


class _Text(torch.nn.Module):
    """What the host's CLIP calls on the module behind it."""

    dtypes = {torch.float32}
    manual_cast_dtype = None

    def __init__(self):
        super().__init__()
        self.execution_device = None

    def set_clip_options(self, options: dict) -> None:
        self.execution_device = options.get("execution_device", self.execution_device)

    def reset_clip_options(self) -> None:
        self.execution_device = None

    def _ids(self, tokens, name) -> torch.Tensor:
        device = self.execution_device or comfy.model_management.text_encoder_device()
        return torch.tensor([[token[0] for token in tokens[name][0]]], device=device)

    def _out(self, tensor):
        return tensor.to(comfy.model_management.intermediate_device())


def _clap_embedding(clap, ids) -> torch.Tensor:
    """L2-normalised text projection [B, D] of ids [B, L].

    The pipelines pad to 512 tokens under a mask, which changes nothing but the time it takes.
    """
    return F.normalize(clap(ids, attention_mask=torch.ones_like(ids)).text_embeds, dim=-1)


class ClapText(_Text):
    """AudioLDM and MusicLDM: one vector per prompt, as cond [1, 1, D] and as pooled_output [1, D]."""

    def __init__(self, clap):
        super().__init__()
        self.clap = clap

    def encode_token_weights(self, tokens):
        embedding = self._out(_clap_embedding(self.clap, self._ids(tokens, "clap")))
        return embedding[:, None], embedding


class T5Text(_Text):
    """Tango: T5's hidden states [1, L, D]."""

    def __init__(self, t5):
        super().__init__()
        self.t5 = t5

    def encode_token_weights(self, tokens):
        ids = self._ids(tokens, "t5")
        return self._out(self.t5(input_ids=ids, attention_mask=torch.ones_like(ids))[0]), None


class GeneratedText(_Text):
    """AudioLDM2: GPT-2's continuation [1, `count`, D] of CLAP and T5, and T5's hidden states [1, L, D1] beside it."""

    def __init__(self, clap, t5, projection, gpt2, count: int):
        super().__init__()
        self.clap, self.t5, self.projection, self.gpt2, self.count = clap, t5, projection, gpt2, count

    def encode_token_weights(self, tokens):
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

    def _continue(self, embeds, mask) -> torch.Tensor:
        """GPT-2's next `count` hidden states, each fed back as the next input (AudioLDM2, section 3.2)."""
        cache, fed = None, embeds
        for _ in range(self.count):
            out = self.gpt2(inputs_embeds=fed, attention_mask=mask, past_key_values=cache, use_cache=True)
            cache, fed = out.past_key_values, out.last_hidden_state[:, -1:]
            embeds, mask = torch.cat([embeds, fed], 1), F.pad(mask, (0, 1), value=1)
        return embeds[:, -self.count :]


def host_clip(text: _Text, tokenizer: TextTokenizer) -> comfy.sd.CLIP:
    """The host's own CLIP around a text module.

    Weights stay float32: Flan-T5 overflows in float16, and a prompt is encoded once.
    """
    use_host_ops(text, torch.float32, None)
    target = ClipTarget(lambda **_: tokenizer, lambda **_: text)
    parameters = sum(p.numel() for p in text.parameters())
    return comfy.sd.CLIP(target, parameters=parameters, model_options={"dtype": torch.float32})
