"""What is said about a Fréchet distance from few windows, on sets whose true distance is known."""

import pytest
import torch

from safa_pack.evaluation.scores.extrapolate import frechet_error, frechet_limit
from safa_pack.evaluation.scores.metrics import frechet_distance

pytestmark = pytest.mark.tools
CANVASES, WINDOWS, WIDTH = 300, 3, 8


def drawn(seed, shift=0.0, alike=0.0):
    """Normal features of variance 1 whose windows share a part `alike` of it, [canvases, windows, width]."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(CANVASES, WINDOWS, WIDTH, generator=generator, dtype=torch.float64)
    shared = torch.randn(CANVASES, 1, WIDTH, generator=generator, dtype=torch.float64)
    return (1 - alike) ** 0.5 * own + alike**0.5 * shared + shift


@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_the_lack_of_windows_is_not_taken_for_a_lack_of_quality(alike):
    """The true distance of both pairs is 0; the plain figure says otherwise, more so where windows are alike."""
    limits = [frechet_limit(drawn(2 * i, alike=alike), drawn(2 * i + 1)) for i in range(6)]
    plain = [
        frechet_distance(drawn(2 * i, alike=alike).flatten(0, 1), drawn(2 * i + 1).flatten(0, 1)) for i in range(6)
    ]
    assert abs(sum(limits) / 6) < 0.25 * sum(plain) / 6


def test_a_real_difference_stays():
    limits = [frechet_limit(drawn(2 * i, shift=0.5), drawn(2 * i + 1)) for i in range(6)]
    assert sum(limits) / 6 == pytest.approx(WIDTH * 0.25, rel=0.1)


def test_the_error_is_the_spread_of_the_figure_over_repetitions():
    repeated = torch.tensor(
        [
            frechet_distance(drawn(2 * i, shift=0.5).flatten(0, 1), drawn(2 * i + 1).flatten(0, 1))
            for i in range(100, 160)
        ]
    )
    errors = torch.tensor([frechet_error(drawn(2 * i, shift=0.5), drawn(2 * i + 1)) for i in range(100, 110)])
    assert float(errors.mean()) == pytest.approx(float(repeated.std()), rel=0.35)


def test_sets_of_different_canvases_are_refused():
    with pytest.raises(ValueError, match="same canvases, at least 4, got 3 and 3"):
        frechet_limit(drawn(0)[:3], drawn(1)[:3])
    with pytest.raises(ValueError, match="got 300 and 299"):
        frechet_limit(drawn(0), drawn(1)[1:])
