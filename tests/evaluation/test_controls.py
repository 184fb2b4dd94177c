"""A control that changes something else than it says would excuse a bad figure."""

import pytest
import torch

from safa_pack.evaluation.controls import dampen

pytestmark = pytest.mark.tools


def test_detail_is_weaker_by_the_decibels_asked_there_and_nowhere_else():
    latents = torch.randn(8, 4, 16, 64, generator=torch.Generator().manual_seed(0))
    changed = dampen(latents, 20, 24, 6.0)
    assert torch.equal(changed[..., :20], latents[..., :20]) and torch.equal(changed[..., 44:], latents[..., 44:])
    checker = (torch.arange(16)[:, None] + torch.arange(64)) % 2 * 2.0 - 1  # the highest frequency there is
    before, after = ((part * checker)[..., 20:44].mean((-1, -2)).std() for part in (latents, changed))
    assert 20 * torch.log10(after / before) == pytest.approx(-6, abs=1)


def test_what_has_no_detail_stays():
    ramp = torch.arange(64.0).expand(1, 1, 8, 64)
    assert torch.allclose(dampen(ramp, 8, 48, 12.0), ramp, atol=1e-5)
