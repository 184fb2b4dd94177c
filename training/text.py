"""The prompt's side: a tokenizer of words and pieces of words, and a small T5 encoder, trained with the UNet."""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from ..safa_core.loading import LOCAL
from .kinds import NAMES, every_word
from .loop import weights

WIDTH, LAYERS = 128, 2
LONGEST = 48  # tokens
SPECIAL = ("<pad>", "</s>", "<unk>")
SUFFIXES = ("s", "es", "ed", "ing", "er", "ers", "ly", "y")
OWN = 0.3  # spread of a word's own part beside its kind's, in units of the kinds' spread
FAINT = 0.1  # of the pieces of unknown words, which should change little
STRANGERS, DROPPED = 0.1, 0.05  # shares of prompts with a made-up word, and of words left out


def new_tokenizer(captions: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token per word of the captions and of kinds.py; other words in the largest pieces that there are.

    "rains" is "rain" and "s", "rainmaker" is "rain" and letters, "zebra" letters alone; letters of other alphabets are
    unknown. Lower case, without accents and punctuation.
    """
    letters = string.ascii_lowercase + string.digits
    words = {word for text in captions for word in text.replace(",", " ").replace("'s", "").split()}
    words |= set(every_word())
    pieces = [*letters, *sorted(words - set(letters)), *(f"##{end}" for end in (*letters, *SUFFIXES))]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys((*SPECIAL, *pieces)))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Replace("'s", "")]
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
        kinds={word: kind for word, kind in every_word().items() if kind},  # read by describe_words of the loader
    )


def known_words(tokenizer) -> int:
    """How many words have a token of their own."""
    return sum(len(token) > 1 and not token.startswith(("##", "<")) for token in tokenizer.get_vocab())


def new_text_encoder(tokenizer, begin: Path | None = None) -> T5EncoderModel:
    """An encoder before training: hidden states [B, L, WIDTH].

    Words that mean one kind begin close together, so that a rare one is learnt with the frequent ones.
    begin: the folder of a model whose layers and words are trained on.
    """
    text = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=32,
            d_ff=2 * WIDTH,
            num_layers=LAYERS,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )
    known = {} if begin is None else _known(text, begin)
    kinds, kind_of = torch.randn(len(NAMES), WIDTH), every_word()
    for number, name in enumerate(NAMES):
        kinds[number] = known.get(name, kinds[number])
    with torch.no_grad():
        weight = text.shared.weight
        for token, number in tokenizer.get_vocab().items():
            if token in known:
                weight[number] = known[token]
            elif kind := kind_of.get(token):
                weight[number] = kinds[NAMES.index(kind)] + OWN * torch.randn(WIDTH)
            elif token.startswith("##") or len(token) == 1:
                weight[number] = FAINT * torch.randn(WIDTH)
    return text


def _known(text: T5EncoderModel, model: Path) -> dict[str, torch.Tensor]:
    """Give `text` the layers of a model's encoder; returns the vectors of its words."""
    held = weights(model, "text_encoder", "model")
    table = held.pop("shared.weight")
    held.pop("encoder.embed_tokens.weight", None)
    text.load_state_dict(held, strict=False)
    words = AutoTokenizer.from_pretrained(model / "tokenizer", **LOCAL).get_vocab()
    return {word: table[number] for word, number in words.items() if not word.startswith("<")}


def token_batch(tokenizer, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask [B, L] of captions, padded to the longest."""
    made = tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
    return made.input_ids, made.attention_mask


def roughened(caption: str, generator: torch.Generator) -> str:
    """A caption with some words left out and now and then a made-up one, which the model learns to pass over."""
    words = caption.split()
    kept = torch.rand(len(words), generator=generator) >= DROPPED
    words = [word for word, keep in zip(words, kept.tolist(), strict=True) if keep]
    if torch.rand((), generator=generator) < STRANGERS:
        length = int(torch.randint(2, 9, (), generator=generator))
        letters = torch.randint(26, (length,), generator=generator).tolist()
        place = int(torch.randint(len(words) + 1, (), generator=generator))
        words.insert(place, "".join(string.ascii_lowercase[letter] for letter in letters))
    return " ".join(words)
