"""The prompt's side: a tokenizer of the words in the captions, and a small T5 encoder, trained with the UNet."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

WIDTH, LAYERS = 128, 2
LONGEST = 32  # words
SPECIAL = ("<pad>", "</s>", "<unk>")


def new_tokenizer(captions: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token per word of the captions, lower case, without punctuation; every other word becomes <unk>."""
    words = sorted(set(" ".join(captions).split()))
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace("'s", "")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("removed")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=LONGEST,
    )


def new_text_encoder(words: int) -> T5EncoderModel:
    """An untrained encoder of `words` tokens: hidden states [B, L, WIDTH]."""
    return T5EncoderModel(
        T5Config(
            vocab_size=words,
            d_model=WIDTH,
            d_kv=32,
            d_ff=2 * WIDTH,
            num_layers=LAYERS,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def token_batch(tokenizer, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask [B, L] of captions, padded to the longest."""
    made = tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
    return made.input_ids, made.attention_mask
