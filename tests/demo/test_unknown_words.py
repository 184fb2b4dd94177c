"""A prompt with words that a model of few words does not know: it works, and the node says which they are."""

import pytest
from transformers import AutoTokenizer

from safa_pack.nodes.audio.text import FEW_WORDS, TextTokenizer, describe_words, unknown_words
from safa_pack.tests import tiny_audio
from safa_pack.tests.demo.stand_in import WORDS, word_tokenizer
from safa_pack.training.text import known_words, new_tokenizer

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words") / "tokenizer"
    word_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("", []),
        ("gentle rain with distant bells", []),
        ("Gentle RAIN, wind!", []),
        ("gentle purple rain", ["purple"]),
        ("Quarks, rain and quarks; Quarks & purple-rain", ["Quarks", "quarks", "purple"]),
        ("雨 and pluie", ["雨", "pluie"]),
    ],
)
def test_the_unknown_words_are_found_as_they_were_written(words, prompt, unknown):
    assert unknown_words(words, prompt) == unknown
    assert TextTokenizer(t5=words).tokenize_with_weights(prompt)["t5"][0]


def test_the_sentence_names_them_and_lists_the_words_that_there_are(words):
    said = describe_words(words, "purple rain of quarks")
    assert said.startswith("unknown to this model: purple, quarks. It knows few words, these ")
    listed = said.split(": ")[-1].rstrip(".").split(", ")
    assert listed == sorted(WORDS.split())
    assert describe_words(words, "rain") == ""


def test_nothing_is_said_of_tokenizers_that_spell_unknown_words_or_know_many(tmp_path):
    tiny_audio.t5_tokenizer(tmp_path / "t5")
    tiny_audio.roberta_tokenizer(tmp_path / "clap")
    many = tmp_path / "many"
    word_tokenizer(many, " ".join(f"w{i}" for i in range(FEW_WORDS)))
    for folder in (tmp_path / "t5", tmp_path / "clap", many):
        assert describe_words(AutoTokenizer.from_pretrained(folder), "purple 雨 quarks") == ""


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """The tokenizer of training, kept and read as a model's folder is."""
    folder = tmp_path_factory.mktemp("pieces")
    new_tokenizer(["rain on a roof"]).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", ""),
        ("Rain on the roofs, raining", ""),
        ("a zebra in the rain", "unknown to this model: zebra. It knows {} words."),
        ("Rainmaker, 雨", "unknown to this model: Rainmaker, 雨. It knows {} words."),
        ("jazz band in space", "jazz, band: heard as drum; space: heard as pad."),
        ("a quokka at the seaside", "unknown to this model: quokka. It knows {} words. seaside: heard as waves."),
    ],
)
def test_a_model_of_pieces_says_what_it_understood(pieces, prompt, said):
    assert describe_words(pieces, prompt) == said.format(known_words(pieces))


def test_the_log_of_a_script_without_nodes_says_it_too(words, caplog):
    TextTokenizer(t5=words).tokenize_with_weights("purple rain")
    assert "SaFa Audio Model Loader: unknown to this model: purple." in caplog.text
