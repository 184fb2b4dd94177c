"""The judge learns from real clips, is kept, and is not mistaken for one of another recipe."""

from dataclasses import replace

import pytest
import torch

from safa_pack.evaluation.scores import classifier
from safa_pack.training.sounds import CLASSES

pytestmark = pytest.mark.tools

RECIPE = classifier.Recipe(clips=4, seconds=0.96, frames=64, features=8, epochs=20, batch=14, held_out=2)


def test_it_learns_is_kept_and_is_found_again(tmp_path):
    said = []
    trained, known = classifier.load(tmp_path, RECIPE, said.append)
    assert known["held_out"] > 2 / len(CLASSES)  # guessing gives 1 / 16
    again, same = classifier.load(tmp_path, RECIPE, said.append)
    assert known == same and len(said) == 3  # the second time nothing is trained
    mels, _ = classifier.held_out(RECIPE)
    for a, b in zip(trained.judge(mels), again.judge(mels), strict=True):
        assert torch.equal(a, b)
    assert known["key"] == classifier.key(RECIPE) != classifier.key(replace(RECIPE, seed=1))


def test_features_and_posteriors_have_the_shapes_that_the_distances_need():
    features, classes = classifier.Classifier(8).eval().judge(torch.randn(3, 64, 64))
    assert features.shape == (3, 8) and classes.shape == (3, len(CLASSES))
    assert torch.allclose(classes.exp().sum(1), torch.ones(3))


def test_streams_are_different_sounds():
    a, _ = classifier.real_mels("classifier", 1, 0.64)
    b, _ = classifier.real_mels("held-out", 1, 0.64)
    assert a.shape == (len(CLASSES), 64, 64)
    assert (a - b).flatten(1).abs().amax(1).min() > 0.1
