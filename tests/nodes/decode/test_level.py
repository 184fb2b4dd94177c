"""No sound leaves a node damaged: one gain for the whole of it."""

import pytest
import torch

from safa_pack.nodes.decode.level import levelled

pytestmark = pytest.mark.host


def sounds(*peaks):
    """[B, 2, 500] with these peaks, in one channel each."""
    drawn = torch.rand(len(peaks), 2, 500, generator=torch.Generator().manual_seed(0)) - 0.5
    return drawn / drawn.abs().amax(dim=(1, 2), keepdim=True) * torch.tensor(peaks)[:, None, None]


@pytest.mark.parametrize(
    "level, gains",
    [("limit", (0.99 / 4, 1, 1, 1)), ("normalise", (0.99 / 4, 0.99 / 0.5, 0.99, 1)), ("leave", (1, 1, 1, 1))],
)
def test_each_sound_of_a_batch_gets_one_gain(level, gains):
    before = sounds(4.0, 0.5, 1.0, 1e-5)
    after, lines = levelled(before, level)
    torch.testing.assert_close(after, before * torch.tensor(gains)[:, None, None])
    assert sum("one gain" in line for line in lines) == sum(gain != 1 for gain in gains)


def test_silence_stays_silent():
    after, lines = levelled(torch.zeros(1, 1, 9), "normalise")
    assert after.abs().max() == 0 and lines == []


def test_a_sound_that_is_left_too_loud_is_named():
    _, lines = levelled(sounds(2.0), "leave")
    assert lines == ["warning: peak 2, which 16- and 24-bit files clip; choose `level` limit"]
