import math

import pytest
import torch

from safa_pack.safa_core.measures.seam import SoundSeam, picture_seam, roll_half, sound_seam

pytestmark = pytest.mark.core

RATE = 8000


def noise(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tone(hertz, seconds=2):
    return torch.sin(2 * math.pi * hertz * torch.arange(RATE * seconds, dtype=torch.float64) / RATE)[None, None]


def literal_picture_seam(image, along_rows):
    """The step at the seam over the mean of eight on either side, pixel by pixel."""
    if along_rows:
        image = image.transpose(1, 2)
    b, h, w, c = image.shape

    def step(x):
        total = 0.0
        for n in range(b):
            for y in range(h):
                for k in range(c):
                    total += abs(float(image[n, y, x % w, k]) - float(image[n, y, (x - 1) % w, k]))
        return total

    return step(0) / (sum(step(x) for x in [*range(-8, 0), *range(1, 9)]) / 16)


@pytest.mark.parametrize("length", [20, 21])
def test_the_ends_meet_in_the_middle(length):
    ring = torch.arange(length).reshape(1, length)
    rolled = roll_half(ring, 1)[0].tolist()
    middle = length // 2
    assert (rolled[middle - 1], rolled[middle]) == (length - 1, 0)
    assert rolled[0] == rolled[-1] + 1


@pytest.mark.parametrize("axis", [1, 2])
def test_a_pictures_score_is_the_step_over_those_beside_it(axis):
    image = torch.rand(2, 23, 31, 3, generator=torch.Generator().manual_seed(5))
    image[:, :2] += 0.3
    assert picture_seam(image, axis) == pytest.approx(literal_picture_seam(image, axis == 1), rel=1e-5)


def test_a_ramp_has_a_seam_and_a_wave_has_none():
    ramp = torch.linspace(0, 1, 100).reshape(1, 1, 100, 1).expand(1, 30, 100, 3)
    wave = 0.5 + 0.5 * torch.sin(torch.arange(100) * 2 * math.pi / 100).reshape(1, 1, 100, 1).expand(1, 30, 100, 3)
    assert picture_seam(ramp, 2) > 90
    assert picture_seam(wave, 2) == pytest.approx(1, abs=0.1)
    assert picture_seam(ramp, 1) == 1  # nothing moves from top to bottom
    assert picture_seam(ramp * 1000 - 7, 2) == pytest.approx(picture_seam(ramp, 2), rel=1e-3)


def test_steady_sounds_have_no_seam():
    assert sound_seam(noise(1, 2, 4 * RATE), RATE).score < 1.5
    whole = sound_seam(tone(200), RATE)
    assert whole.click <= 1 and whole.change < 1
    assert sound_seam(torch.zeros(1, 1, RATE), RATE) == SoundSeam(0.0, 0.0)


def test_a_tone_that_is_cut_clicks():
    cut = sound_seam(tone(200.12), RATE)  # a quarter of a period is missing
    largest = float(tone(200.12).diff().abs().max())
    step = abs(float(tone(200.12)[0, 0, 0] - tone(200.12)[0, 0, -1]))
    assert cut.click == pytest.approx(step / largest, rel=1e-2) and cut.score > 4


def test_another_timbre_or_loudness_across_the_seam_is_a_change():
    sound = noise(1, 1, 4 * RATE)
    softer = torch.cat([0.1 * sound[..., : 2 * RATE], sound[..., 2 * RATE :]], -1)
    duller = torch.nn.functional.avg_pool1d(sound[..., : 2 * RATE], 9, 1, 4)
    for broken in (softer, torch.cat([duller, sound[..., 2 * RATE :]], -1)):
        assert sound_seam(broken, RATE).change > 2
        assert sound_seam(roll_half(broken, 2), RATE).change > 2  # the other place where the two halves meet
        assert sound_seam(broken.roll(RATE, -1), RATE).change < 1.5


def test_the_score_does_not_know_where_a_good_loop_was_cut():
    sound = noise(1, 1, 4 * RATE)
    assert all(sound_seam(sound.roll(k * 977, -1), RATE).score < 1.6 for k in range(8))


def test_the_worst_channel_clicks():
    sound = torch.cat([tone(200), tone(200.12)], 1)
    assert sound_seam(sound, RATE).click == pytest.approx(sound_seam(tone(200.12), RATE).click)


def test_half_precision_and_short_sounds():
    assert sound_seam(noise(1, 1, RATE).half(), RATE).score < 1.6
    assert 0 <= sound_seam(noise(1, 1, 288), 48000).score < 3


def test_what_is_too_short_is_refused():
    with pytest.raises(ValueError, match=r"at least 18 pixels along the loop, got 17"):
        picture_seam(torch.zeros(1, 40, 17, 3), 2)
    with pytest.raises(ValueError, match=r"at least 288 samples, got 287"):
        sound_seam(torch.zeros(1, 1, 287), RATE)
