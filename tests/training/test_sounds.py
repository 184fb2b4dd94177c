"""The training set's sounds are what their captions say, and different every time."""

import numpy as np
import pytest
import torch

from safa_pack.training.data import MEL
from safa_pack.training.sounds import BEDS, CLASSES, GUESTS, SAMPLE_RATE, SOUNDS, clip

pytestmark = pytest.mark.tools
HEADS = {
    "waves": ("waves", "sea"),
    "stream": ("stream", "water"),
    "pad": ("pad", "drone", "chords"),
    "fire": ("fire",),
    "thunder": ("thunder", "thunderstorm"),
}


def made(name, number, seconds=2.0):
    return SOUNDS[name](np.random.default_rng([7, CLASSES.index(name), number]), seconds)


@pytest.mark.parametrize("name", CLASSES)
def test_a_sound_is_whole_audible_and_says_its_class(name):
    captions = set()
    for number in range(6):
        wave, caption = made(name, number, 1.0 + number / 3)
        assert wave.shape == (round((1.0 + number / 3) * SAMPLE_RATE),) and wave.dtype == np.float32
        assert np.isfinite(wave).all() and np.abs(wave).max() <= 0.95
        assert -33 < 20 * np.log10(np.sqrt(np.mean(wave**2))) < -17
        assert set(caption.split()) & set(HEADS.get(name, (name,)))
        captions.add(caption)
    assert len(captions) >= 3


@pytest.mark.parametrize("name", CLASSES)
def test_no_two_clips_of_a_class_are_alike(name):
    waves = [made(name, number)[0] for number in range(4)]
    spectra = [MEL.spectrogram(torch.from_numpy(wave)[None])[0] for wave in waves]
    for i, one in enumerate(spectra):
        for other in spectra[:i]:
            assert (one - other).abs().mean() > 0.2


def test_a_clip_is_the_same_whenever_it_is_made_and_of_all_classes_in_turn():
    first, again = clip("training", 5, 1.0), clip("training", 5, 1.0)
    assert np.array_equal(first.wave, again.wave) and first.caption == again.caption
    assert [clip("training", n, 0.5).classes for n in range(len(CLASSES))] == [(name,) for name in CLASSES]


def test_what_judges_the_model_has_never_been_in_its_training():
    for number in range(4):
        waves = [clip(stream, number, 1.0).wave for stream in ("training", "classifier", "held-out")]
        assert not any(np.array_equal(waves[i], waves[i - 1]) for i in range(3))


def test_a_mixture_names_both_of_its_sounds():
    for number in range(12):
        mixed = clip("training", number, 1.0, mixtures=1.0)
        bed, guest = mixed.classes
        assert bed in BEDS and guest in GUESTS
        assert {"with", "and"} & set(mixed.caption.split())
        for name in mixed.classes:
            assert set(mixed.caption.split()) & set(HEADS.get(name, (name,)))


def test_every_class_can_be_told_from_the_others_by_its_spectrum():
    """Nearest class mean over simple statistics, on clips that the means have not seen."""

    def features(name, number):
        mel = MEL.spectrogram(torch.from_numpy(made(name, number)[0])[None])[0]
        mel = mel - mel.mean()
        return torch.cat([mel.mean(0), mel.std(0), mel.diff(dim=0).abs().mean(0)])

    known = torch.stack([torch.stack([features(name, n) for n in range(12)]) for name in CLASSES])
    spread = known.std((0, 1))
    means = known.mean(1) / spread
    hits = [
        ((features(name, 50 + n) / spread - means).square().sum(1).argmin().item() == number)
        for number, name in enumerate(CLASSES)
        for n in range(3)
    ]
    assert np.mean(hits) > 0.7  # 1 in 14 by chance
