import math

import pytest
import torch

from safa_pack.safa_core.methods.lite_focus import CrossFrequency, TokenGrid, attention, focus_attention

pytestmark = pytest.mark.core

HEADS, WIDTH = 2, 3


def projected(batch, tokens, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, tokens, HEADS * WIDTH, generator=generator, dtype=dtype) for _ in range(3)]


def literal(q, k, v, frames, bins, picked, frequency_first=False):
    """One query after the other, over the list of the tokens that it sees."""

    def number(t, f):
        return f * frames + t if frequency_first else t * bins + f

    out = torch.zeros_like(q)
    for b in range(len(q)):
        for h in range(HEADS):
            part = slice(h * WIDTH, (h + 1) * WIDTH)
            for t in range(frames):
                for f in range(bins):
                    seen = [number(other, f) for other in range(frames)] + picked
                    query = q[b, number(t, f), part].tolist()
                    scores = [sum(x * y for x, y in zip(query, k[b, n, part].tolist(), strict=True)) for n in seen]
                    powers = [math.exp(s / math.sqrt(WIDTH)) for s in scores]
                    for power, n in zip(powers, seen, strict=True):
                        out[b, number(t, f), part] += power / sum(powers) * v[b, n, part]
    return out


@pytest.mark.parametrize("frequency_first", [False, True])
@pytest.mark.parametrize(("frames", "bins"), [(5, 3), (4, 8), (1, 6), (7, 1)])
@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5, 1.0])
def test_every_query_sees_its_frequency_and_the_random_tokens(frames, bins, rho, frequency_first):
    q, k, v = projected(2, frames * bins)
    picked = CrossFrequency(rho, seed=4).picked(frames * bins)
    assert len(picked) == math.floor(rho * frames * bins)
    out = focus_attention(q, k, v, HEADS, TokenGrid(frames, bins, frequency_first), picked)
    expected = literal(q, k, v, frames, bins, picked.tolist(), frequency_first)
    assert out.shape == q.shape
    assert (out - expected).abs().max() <= 1e-5


def test_a_known_permutation_of_everything():
    """rho 1: full attention in which the own frequency counts twice, whatever the order."""
    q, k, v = projected(1, 12)
    out = focus_attention(q, k, v, HEADS, TokenGrid(4, 3), torch.tensor([5, 0, 11, 2, 7, 1, 9, 3, 10, 4, 8, 6]))
    own = torch.arange(12) % 3
    twice = (own[:, None] == own[None]).double().add(1).log().float()
    q, k, v = (x.unflatten(2, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(WIDTH) + twice, -1)
    assert (out - (weights @ v).transpose(1, 2).flatten(2)).abs().max() <= 1e-5


def test_one_frequency_without_random_tokens_is_full_attention():
    q, k, v = projected(2, 9)
    none = CrossFrequency(0.0).picked(9)
    assert (focus_attention(q, k, v, HEADS, TokenGrid(9, 1), none) - attention(q, k, v, HEADS)).abs().max() <= 1e-6


def test_one_frequency_with_all_tokens_twice_is_full_attention():
    q, k, v = projected(2, 9)
    everything = CrossFrequency(1.0).picked(9)
    out = focus_attention(q, k, v, HEADS, TokenGrid(9, 1), everything)
    assert (out - attention(q, k, v, HEADS)).abs().max() <= 1e-6


def test_one_frequency_with_some_tokens_twice_leans_to_those():
    q, k, v = projected(1, 6)
    twice = torch.tensor([2, 5])
    again = [torch.cat([x, x[:, twice]], 1) for x in (k, v)]
    out = focus_attention(q, k, v, HEADS, TokenGrid(6, 1), twice)
    assert (out - attention(q, *again, HEADS)).abs().max() <= 1e-6
    assert (out - attention(q, k, v, HEADS)).abs().max() > 1e-3


def test_other_frequencies_are_not_heard_without_compensation():
    q, k, v = projected(1, 12)
    none = CrossFrequency(0.0).picked(12)
    before = focus_attention(q, k, v, HEADS, TokenGrid(4, 3), none)
    changed = v.clone()
    changed[:, 1::3] += 1
    after = focus_attention(q, k, changed, HEADS, TokenGrid(4, 3), none)
    assert torch.equal(before[:, 0::3], after[:, 0::3]) and torch.equal(before[:, 2::3], after[:, 2::3])
    assert not torch.equal(before[:, 1::3], after[:, 1::3])


def test_both_orders_of_tokens_are_the_same_attention():
    tokens = projected(2, 20)
    first = [x.unflatten(1, (5, 4)).transpose(1, 2).flatten(1, 2) for x in tokens]
    picked = torch.tensor([0, 7, 13])
    moved = picked % 4 * 5 + picked // 4
    a = focus_attention(*tokens, HEADS, TokenGrid(5, 4), picked)
    b = focus_attention(*first, HEADS, TokenGrid(5, 4, frequency_first=True), moved)
    assert (a.unflatten(1, (5, 4)).transpose(1, 2).flatten(1, 2) - b).abs().max() <= 1e-6


def test_half_precision_stays_half_precision():
    q, k, v = projected(1, 20, dtype=torch.bfloat16)
    picked = CrossFrequency(0.3).picked(20)
    out = focus_attention(q, k, v, HEADS, TokenGrid(5, 4), picked)
    exact = focus_attention(q.float(), k.float(), v.float(), HEADS, TokenGrid(5, 4), picked)
    assert out.dtype == torch.bfloat16 and (out - exact).abs().max() < 0.03


def test_random_tokens_follow_from_the_seed_and_differ_by_call_and_place():
    def drawn(seed=3, call=2, place=1):
        return CrossFrequency(0.5, seed).picked(200, call, place).tolist()

    assert drawn() == drawn()
    assert len({tuple(p) for p in (drawn(), drawn(seed=4), drawn(call=3), drawn(place=2))}) == 4
    assert len(set(drawn())) == 100 and set(drawn()) <= set(range(200))
    assert len(drawn(seed=2**64 - 1)) == 100


def test_a_permutation_of_everything_has_everything():
    assert sorted(CrossFrequency(1.0, 9).picked(50).tolist()) == list(range(50))


@pytest.mark.parametrize("rho", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_share_outside_0_to_1_is_refused(rho):
    with pytest.raises(ValueError, match=r"Expected `rho` in \[0, 1\], got"):
        CrossFrequency(rho)
