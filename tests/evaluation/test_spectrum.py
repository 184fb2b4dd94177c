"""Fig. 2(b): deficits that are known beforehand are found."""

import math

import pytest
import torch

from safa_pack.safa_core import swap_pattern
from safa_pack.safa_core.measures.spectrum import high_frequency_deficit, radial_spectrum, relative, top_third

pytestmark = pytest.mark.tools

SHAPE = (300, 8, 16, 26)
HALVED = 10 * math.log10(2)


def noise(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def deficit(reference, pieces, curve=lambda s: s):
    return float(high_frequency_deficit(curve(radial_spectrum(reference)), curve(radial_spectrum(pieces))).mean())


def test_averaged_white_noise_lost_half_its_power_at_every_frequency():
    averaged = (noise(0) + noise(1)) / 2
    assert deficit(noise(2), averaged) == pytest.approx(HALVED, abs=0.1)
    assert deficit(noise(2), averaged, relative) == pytest.approx(0, abs=0.4)


def test_swapped_white_noise_lost_nothing():
    v = swap_pattern(SHAPE[-1])
    swapped = v * noise(0) + (1 - v) * noise(1)
    assert deficit(noise(2), swapped) == pytest.approx(0, abs=0.1)
    assert deficit(noise(2), swapped, relative) == pytest.approx(0, abs=0.4)


def test_views_that_share_what_is_slow_lose_only_what_is_fast():
    """What averaging does to views that agree on low frequencies: the deficit stands in the relative curve."""
    height, width = SHAPE[-2:]
    radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
    low = (radius < 0.2).float()

    def filtered(x, keep):
        return torch.fft.ifft2(torch.fft.fft2(x) * keep).real

    shared = 4 * filtered(noise(3), low)
    views = [shared + filtered(noise(seed), 1 - low) for seed in (0, 1)]
    assert deficit(views[0], (views[0] + views[1]) / 2, relative) == pytest.approx(HALVED, abs=0.3)


def test_what_sounds_at_one_frequency_shows_in_its_own_bin():
    height, width = SHAPE[-2:]
    radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
    band = torch.fft.ifft2(torch.fft.fft2(noise(0)) * ((radius > 0.26) & (radius < 0.31))).real
    assert int(radial_spectrum(band).mean(0).argmax()) == 4  # of 8: 0.5 to 0.625 of Nyquist


def test_top_third_starts_at_two_thirds_of_nyquist():
    assert list(range(9))[top_third(9)] == [6, 7, 8]  # bin 6 of 9 begins at 6 / 9
    assert list(range(8))[top_third(8)] == [6, 7]


def test_louder_latents_differ_by_their_level_alone():
    gained = radial_spectrum(10 * noise(0)) - radial_spectrum(noise(0))
    assert torch.allclose(gained, torch.full_like(gained, 20.0))
