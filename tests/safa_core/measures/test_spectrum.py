"""Fig. 2(b): what is known beforehand is found, and the same as by loops over frequencies, columns and views."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from safa_pack.safa_core import AverageJoin, SwapJoin, ViewPlan, plan_views, swap_pattern
from safa_pack.safa_core.fold import ViewFold
from safa_pack.safa_core.measures.spectrum import (
    LEAST,
    REACH,
    centre_spectrum,
    compared_width,
    high_frequency_deficit,
    measure,
    middle_regions,
    overlap_regions,
    planes,
    radial_spectrum,
    relative,
    seams,
    top_third,
    view_borders,
)
from safa_pack.tests.safa_core.random_plans import plans

pytestmark = pytest.mark.core

SHAPE = (150, 8, 16, 26)
HALVED = 10 * math.log10(2)  # averaging two independent noises halves the power: 3.01 dB


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def walk(*shape, seed=0):
    """Latents that change slowly along the last axis."""
    return noise(*shape, seed=seed).cumsum(-1)


def literal_spectrum(piece):
    """One piece [C, F, T] by numpy, a loop over all frequencies: dB by ring, averaged over channels."""
    channels, height, width = piece.shape
    sides = [n for n in (height, width) if n > 1]
    bins = min(sides) // 2
    hann = [np.array([math.sin(math.pi * (k + 1) / (n + 1)) ** 2 for k in range(n)]) for n in (height, width)]
    curves = []
    for c in range(channels):
        amplitude = np.abs(np.fft.fft2(piece[c].double().numpy() * hann[0][:, None] * hann[1][None]))
        rings = [[] for _ in range(bins)]
        for u in range(height):
            for v in range(width):
                # frequencies squared and over a common denominator: no rounding decides the ring
                fu, fv = min(u, height - u) * width, min(v, width - v) * height
                whole, nyquist = fu * fu + fv * fv, (height * width) ** 2
                if 4 * whole > nyquist:
                    continue
                k = max(k for k in range(bins + 1) if k * k * nyquist <= 4 * whole * bins * bins)
                rings[min(k, bins - 1)].append(20 * math.log10(max(amplitude[u, v], 1e-12)))
        curves.append([sum(ring) / len(ring) for ring in rings])
    return np.array(curves).mean(0)


def literal_regions(plan):
    """Eqs. 2 and 3 by counting: columns that view i shares with i + 1, and those that no other view has."""
    sets = [set(plan.indices(i).tolist()) for i in range(len(plan))]
    last = len(plan) if plan.loop else len(plan) - 1
    overlaps, middles = [], []
    for i in range(last):
        j = (i + 1) % len(plan)
        # the end of view i that view j begins in; sets alone would join both ends of a small ring
        own = plan.indices(i).tolist()
        place = (plan.starts[j] - plan.starts[i]) % plan.length if i != j else plan.length
        overlaps.append(own[place:])
    for i in range(len(plan)):
        others = set().union(*(s for k, s in enumerate(sets) if k != i))
        middles.append([c for c in plan.indices(i).tolist() if c not in others])
    return [o for o in overlaps if o], [m for m in middles if m]


def literal_deficits(canvas, plan, width):
    """(relative, absolute) of each canvas [N, C, F, L] from the centres of all regions."""
    found = []
    for item in canvas:
        curves = []
        for regions in literal_regions(plan):
            pieces = [r[(len(r) - width) // 2 :][:width] for r in regions]
            curves.append(np.mean([literal_spectrum(item[..., torch.tensor(p)]) for p in pieces], axis=0))
        overlap, middle = curves
        bins = len(overlap)
        top = [k for k in range(bins) if k / bins >= 2 / 3 - 1e-12]
        found.append(
            (
                np.mean([(middle[k] - middle[0]) - (overlap[k] - overlap[0]) for k in top]),
                np.mean([middle[k] - overlap[k] for k in top]),
            )
        )
    return found


@pytest.mark.parametrize(
    "shape", [(3, 16, 26), (2, 16, 24), (2, 13, 9), (1, 7, 50), (4, 1, 49), (2, 1, 98), (1, 64, 6)]
)
def test_the_spectrum_is_the_mean_of_each_ring(shape):
    piece = noise(*shape)
    got = radial_spectrum(piece.unsqueeze(0))
    assert got.shape[0] == 1 and got.dtype == torch.float64
    assert got[0].numpy() == pytest.approx(literal_spectrum(piece), abs=1e-9)


@pytest.mark.parametrize("loop", [False, True])
def test_deficits_are_those_of_every_region_by_hand(loop):
    length = 88 if loop else 98  # four views, overlaps of 10 and middles of 12
    plan = plan_views(length, 32, 0.3, loop)
    canvas = noise(2, 3, 12, length) + walk(2, 3, 12, length, seed=1)
    found = measure(canvas, plan, 3)
    assert found.width == 10
    expected = literal_deficits(canvas, plan, found.width)
    deficit = found.deficit()
    assert deficit["relative"].tolist() == pytest.approx([r for r, _ in expected], abs=1e-8)
    assert deficit["absolute"].tolist() == pytest.approx([a for _, a in expected], abs=1e-8)


@settings(max_examples=60, deadline=None)
@given(plans())
def test_regions_are_those_of_equations_2_and_3(plan):
    overlaps, middles = literal_regions(plan)
    assert [[(a + k) % plan.length for k in range(w)] for a, w in overlap_regions(plan)] == overlaps
    if max(plan.overlaps, default=0) * 2 <= plan.view:  # else a middle may be two pieces
        assert [[(a + k) % plan.length for k in range(w)] for a, w in middle_regions(plan)] == middles


def deficit(reference, pieces, curve=lambda s: s):
    return float(high_frequency_deficit(curve(radial_spectrum(reference)), curve(radial_spectrum(pieces))).mean())


def test_averaged_white_noise_lost_half_its_power_at_every_frequency():
    averaged = (noise(*SHAPE) + noise(*SHAPE, seed=1)) / 2
    assert deficit(noise(*SHAPE, seed=2), averaged) == pytest.approx(HALVED, abs=0.1)
    assert deficit(noise(*SHAPE, seed=2), averaged, relative) == pytest.approx(0, abs=0.5)


def test_swapped_white_noise_lost_nothing():
    v = swap_pattern(SHAPE[-1])
    swapped = v * noise(*SHAPE) + (1 - v) * noise(*SHAPE, seed=1)
    assert deficit(noise(*SHAPE, seed=2), swapped) == pytest.approx(0, abs=0.1)
    assert deficit(noise(*SHAPE, seed=2), swapped, relative) == pytest.approx(0, abs=0.5)


def joined(plan, join, shape, axis, seed=0):
    """Independent white noise of every view, joined: what an average or a swap makes of views that differ."""
    views = list(shape)
    views[axis] = len(plan) * plan.view
    return ViewFold(plan, join.weights(plan), len(shape), axis).scatter(noise(*views, seed=seed))


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((8, 16, 16, None), 3), ((8, 16, None, 16), 2), ((64, 32, None), 2), ((2, 16, 3, 16, None), 4)],
    ids=["picture", "sound, time first", "1-D", "video"],
)
def test_averages_lose_three_decibels_and_swaps_nothing_in_any_latent(shape, axis, loop):
    plan = plan_views(196, 64, 0.3, loop)
    shape = tuple(196 if n is None else n for n in shape)
    averaged = measure(joined(plan, AverageJoin(), shape, axis), plan, axis)
    swapped = measure(joined(plan, SwapJoin(), shape, axis), plan, axis)
    assert averaged.overlap.shape[0] == shape[0]
    assert float(averaged.deficit()["absolute"].mean()) == pytest.approx(HALVED, abs=0.25)
    assert float(swapped.deficit()["absolute"].mean()) == pytest.approx(0, abs=0.25)
    assert averaged.seams.score == pytest.approx(1, abs=0.05)  # calmer inside an overlap, but no step


def test_a_time_first_latent_measures_as_its_transpose():
    plan, canvas = plan_views(88, 32, 0.3, True), walk(2, 8, 16, 88)
    one, other = measure(canvas, plan, 3), measure(canvas.transpose(2, 3).contiguous(), plan, 2)
    assert torch.allclose(one.overlap, other.overlap) and torch.allclose(one.middle, other.middle)
    assert one.seams.scores == pytest.approx(other.seams.scores)


def test_frames_of_a_video_count_as_much_as_pictures_of_a_batch():
    plan, video = plan_views(60, 24, 0.3), noise(2, 4, 3, 8, 60)
    found = measure(video, plan, 4)
    apart = torch.stack([measure(video[:, :, t], plan, 3).overlap for t in range(3)]).mean(0)
    assert torch.allclose(found.overlap, apart)


def test_few_rows_count_as_channels():
    latent = noise(2, 8, 4, 90)
    assert planes(latent, 3).shape == (2, 32, 1, 90)
    assert torch.equal(planes(latent, 3), planes(latent.flatten(1, 2), 2))
    assert planes(noise(2, 8, LEAST, 90), 3).shape == (2, 8, LEAST, 90)


def test_half_precision_is_measured_in_full():
    plan, canvas = plan_views(90, 32, 0.3), noise(1, 4, 8, 90).half()
    assert torch.equal(measure(canvas, plan, 3).overlap, measure(canvas.float(), plan, 3).overlap)


@pytest.mark.parametrize(
    ("plan", "width", "middle"),
    [
        (plan_views(160, 64, 0.25), 16, True),
        (plan_views(118, 64, 0.1), 10, True),
        (plan_views(256, 64, 0.75, loop=True), 48, False),  # no column in one view only
        (plan_views(112, 64, 0.75), 16, True),  # the canvas's two ends
        (plan_views(68, 64, 0.9), 60, False),  # the ends are too narrow
        (plan_views(124, 64, 0.05), 0, False),  # overlaps are too narrow
        (plan_views(128, 64, 0.0), 0, False),
    ],
)
def test_regions_are_as_wide_as_the_narrowest_that_has_a_spectrum(plan, width, middle):
    assert compared_width(plan) == width
    found = measure(noise(1, 4, 8, plan.length), plan, 3)
    assert found.width == width
    assert (found.overlap is not None) == (width > 0) and (found.middle is not None) == middle
    if middle:
        assert torch.isfinite(found.deficit()["relative"]).all()


def test_overlaps_are_compared_with_a_reference_too():
    plan = plan_views(256, 64, 0.75, loop=True)
    found = measure(joined(plan, AverageJoin(), (4, 16, 16, 256), 3), plan, 3)
    single = centre_spectrum(noise(6, 16, 16, 64, seed=5), 3, found.width)
    # a column has four views, so a quarter of the power is left
    assert float(found.deficit(single)["absolute"].mean()) == pytest.approx(2 * HALVED, abs=0.3)


def test_views_that_share_what_is_slow_lose_only_what_is_fast():
    """What averaging does to views that agree on low frequencies: the deficit stands in the relative curve."""
    height, width = SHAPE[-2:]
    radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
    low = (radius < 0.2).float()

    def filtered(x, keep):
        return torch.fft.ifft2(torch.fft.fft2(x) * keep).real

    shared = 4 * filtered(noise(*SHAPE, seed=3), low)
    views = [shared + filtered(noise(*SHAPE, seed=seed), 1 - low) for seed in (0, 1)]
    assert deficit(views[0], (views[0] + views[1]) / 2, relative) == pytest.approx(HALVED, abs=0.3)


def test_what_sounds_at_one_frequency_shows_in_its_own_bin():
    height, width = SHAPE[-2:]
    radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
    band = torch.fft.ifft2(torch.fft.fft2(noise(*SHAPE)) * ((radius > 0.26) & (radius < 0.31))).real
    assert int(radial_spectrum(band).mean(0).argmax()) == 4  # of 8: 0.5 to 0.625 of Nyquist


def test_top_third_starts_at_two_thirds_of_nyquist():
    assert list(range(9))[top_third(9)] == [6, 7, 8]  # bin 6 of 9 begins at 6 / 9
    assert list(range(8))[top_third(8)] == [6, 7]
    assert list(range(LEAST // 2))[top_third(LEAST // 2)] == [2]


def test_louder_latents_differ_by_their_level_alone():
    gained = radial_spectrum(10 * noise(9, 4, 8, 20)) - radial_spectrum(noise(9, 4, 8, 20))
    assert torch.allclose(gained, torch.full_like(gained, 20.0))


def literal_seams(canvas, plan):
    """{column: score} and the closing seam, by loops."""
    length = plan.length

    def step(c):
        return float((canvas[..., c] - canvas[..., (c - 1) % length]).abs().double().mean())

    begins = {s % length for s in plan.starts} | {(s + plan.view) % length for s in plan.starts}
    scores, at, beside = {}, [], []
    for border in sorted(begins | {0}):
        if border == 0 and not plan.loop:
            continue
        calm = []
        for offset in range(-REACH, REACH + 1):
            c = border + offset
            if not plan.loop and not 0 < c < length:
                continue
            if c % length not in begins and c % length != 0:
                calm.append(step(c % length))
        if calm:
            scores[border] = step(border) / (sum(calm) / len(calm))
            if border:
                at.append(step(border))
                beside.append(sum(calm) / len(calm))
    closing = scores.pop(0, None)
    return scores, closing, sum(at) / sum(beside) if at else None


@settings(max_examples=60, deadline=None)
@given(plans())
def test_seams_are_those_of_loops_over_columns(plan):
    canvas = noise(2, 3, 2, plan.length)
    found = seams(canvas, plan)
    scores, closing, score = literal_seams(canvas, plan)
    if plan.length > 1:
        assert dict(zip(found.columns, found.scores, strict=True)) == pytest.approx(scores, rel=1e-5)
        assert found.closing == (closing if closing is None else pytest.approx(closing, rel=1e-5))
        assert found.score == (score if score is None else pytest.approx(score, rel=1e-5))


@pytest.mark.parametrize("loop", [False, True])
def test_a_hard_seam_is_found_where_it_is(loop):
    plan = plan_views(160, 64, 0.25, loop)
    canvas = noise(2, 8, 16, 160)
    even = seams(canvas, plan)
    assert even.score == pytest.approx(1, abs=0.05)
    broken = view_borders(plan)[1]
    canvas[..., broken:] += 5
    found = seams(canvas, plan)
    assert found.columns[int(np.argmax(found.scores))] == broken
    assert max(found.scores) > 3 and found.score > 1.3
    others = [s for c, s in zip(found.columns, found.scores, strict=True) if c != broken]
    assert others == pytest.approx([s for c, s in zip(even.columns, even.scores, strict=True) if c != broken])
    assert found.closing is None if not loop else found.closing > 3  # what rises by 5 has to come down somewhere


def test_the_end_of_a_loop_is_told_apart():
    plan = plan_views(160, 64, 0.25, loop=True)
    canvas = walk(1, 4, 8, 160)
    closed = canvas - torch.arange(160) / 159 * (canvas[..., -1:] - canvas[..., :1])
    assert seams(closed, plan).closing < 1
    opened = seams(canvas, plan)
    assert opened.closing > 3 and opened.score == pytest.approx(1, abs=0.3)
    assert 0 not in opened.columns
    assert seams(canvas, plan_views(160, 64, 0.25)).closing is None


def test_the_seam_score_has_no_scale():
    plan, canvas = plan_views(160, 64, 0.25, True), walk(1, 4, 8, 160)
    assert seams(1000 * canvas + 7, plan).scores == pytest.approx(seams(canvas, plan).scores, rel=1e-3)


def test_a_loud_passage_is_no_seam():
    """A border amid large steps is measured against those, not against a silent rest."""
    plan, canvas = plan_views(160, 64, 0.25), noise(1, 8, 16, 160)
    canvas[..., 90:130] *= 30
    border = 96
    assert border in view_borders(plan)
    found = seams(canvas, plan)
    assert dict(zip(found.columns, found.scores, strict=True))[border] == pytest.approx(1, abs=0.3)


def test_nothing_at_all_has_no_seam():
    found = seams(torch.zeros(1, 4, 8, 160), plan_views(160, 64, 0.25, loop=True))
    assert (found.score, found.closing) == (1, 1) and set(found.scores) == {1}


def test_views_at_every_column_leave_nothing_to_compare_a_border_with():
    found = seams(noise(1, 4, 8, 24), ViewPlan(tuple(range(17)), 8, 24))
    assert found.score is None and found.closing is None
