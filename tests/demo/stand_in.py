"""A model in the layout of models/safa-pocket with random weights: 16 kHz, window 5.12 s, a vocabulary of words."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from safa_pack import run
from safa_pack.tests import tiny_audio

WORDS = "a and bells birds calm clock crickets distant drum engine fire gentle in of on rain soft stream the wind with"
SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def word_tokenizer(folder, words=WORDS):
    """Whole words, lower case; every other word is <unk>."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL.values(), ",", *words.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **SPECIAL).save_pretrained(folder)


def stand_in(folder, seed=71):
    scheduler = tiny_audio.SCHEDULER | {"prediction_type": "v_prediction"}
    return tiny_audio.write(
        folder,
        "TextToAudio",
        scheduler=scheduler,
        vae=("diffusers", tiny_audio.vae(seed)),
        text_encoder=("transformers", tiny_audio.t5(seed + 1)),
        tokenizer=("transformers", word_tokenizer),
        unet=("diffusers", tiny_audio.token_unet(seed + 2, sample_size=(128, 16))),
        vocoder=("transformers", None),
    )


def offer_pocket(models):
    """Where the pack has no model of its own yet, a stand-in of that name below a server's models folder."""
    folder = models / "audio_models" / "safa-pocket"
    if not (run.ROOT / "models" / "safa-pocket").is_dir() and not folder.is_dir():
        stand_in(folder)
