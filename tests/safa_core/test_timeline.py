import re

import pytest
import torch

from safa_pack.safa_core import ViewPlan, plan_views
from safa_pack.safa_core.timeline import (
    Ruler,
    prompt_of_views,
    prompt_weights,
    prompts_of_views,
    read_timeline,
    weights_of_views,
)

pytestmark = pytest.mark.core

OPEN = Ruler(plan_views(200, 80, 0.25), "seconds", 0.1)  # 20 s, views of 8 s from 0, 6 and 12 s
RING = Ruler(plan_views(240, 100, 0.2, loop=True), "seconds", 0.1)  # 24 s, views of 10 s from 0, 8 and 16 s
WIDE = Ruler(plan_views(319, 64, 0.2), "pixels", 8)  # 2552 px, six views


def spans(text, ruler=OPEN):
    return [(line.span, line.prompt) for line in read_timeline(text, ruler)]


def weights(text, ruler=OPEN, fade=0):
    prompts, found = prompt_weights(read_timeline(text, ruler), ruler, fade)
    return dict(zip(prompts, found, strict=True))


def literal(written, length, fade, loop, parts=20):
    """Weights from the description, point by point: the mean over `fade` columns of who speaks at each.

    written: [(first, last, prompt)] in columns, last excluded, both None for the default line.
    """

    def speaking(place):
        place = place % length if loop else min(max(place, 0), length - 1e-9)
        inside = []
        for first, last, prompt in written:
            if first is not None and (first <= place < last if first < last else place >= first or place < last):
                inside.append(prompt)
        return inside or [prompt for first, _, prompt in written if first is None]

    result = {prompt: [] for _, _, prompt in written}
    for column in range(length):
        points = [column + 0.5 + ((k + 0.5) / parts - 0.5) * fade for k in range(parts)] if fade > 1 else [column + 0.5]
        sums = dict.fromkeys(result, 0.0)
        for point in points:
            names = speaking(point)
            for name in names:
                sums[name] += 1 / len(names) / len(points)
        for name, total in sums.items():
            result[name].append(total)
    return {name: torch.tensor(row) for name, row in result.items() if any(row)}


def agree(found, expected):
    assert list(found) == list(expected)
    for name, row in expected.items():
        torch.testing.assert_close(found[name], row, atol=1e-6, rtol=0)
    torch.testing.assert_close(sum(found.values()), torch.ones(len(row)), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("line", "span", "prompt"),
    [
        ("0-8: gentle rain", (0, 80), "gentle rain"),
        ("8-20: rain, bells: far away", (80, 120), "rain, bells: far away"),
        ("  .5 s – 1.25s:rain  ", (5, 8), "rain"),  # 12.5 columns round up
        ("8S-20: rain", (80, 120), "rain"),
        ("8-: rain", (80, 120), "rain"),
        ("-8s: rain", (0, 80), "rain"),
        ("0-20.04: rain", (0, 200), "rain"),  # within half a column of the end
        ("1-2v: rain", (0, 130), "rain"),  # views 2 and 3 share columns 120 to 140
        ("2v: rain", (70, 60), "rain"),
        ("2v-: rain", (70, 130), "rain"),
        ("-1v: rain", (0, 70), "rain"),
        ("default: 8-20 rain", None, "8-20 rain"),
        ("Default : rain", None, "rain"),
        ("rain", None, "rain"),
        ("1girl, (smiling:1.2)", None, "1girl, (smiling:1.2)"),
        ("8-bit music", None, "8-bit music"),
        ("90s synthesizer, slow", None, "90s synthesizer, slow"),
        ("2 dogs: one barks"[2:], None, "dogs: one barks"),
    ],
)
def test_a_line_means_what_it_says(line, span, prompt):
    assert spans(line) == [(span, prompt)]


def test_pixels_and_latent_columns():
    assert spans("0-512: sky\n512px-2552px: sea", WIDE) == [((0, 64), "sky"), ((64, 255), "sea")]
    latent = Ruler(WIDE.plan)
    assert spans("0-64: sky\n2-3v: sea", latent)[0] == ((0, 64), "sky")
    assert spans("0-64: sky\n2-3v: sea", latent)[1] == spans("2-3v: sea", WIDE)[0]


def test_a_span_goes_around_a_loop():
    assert spans("20-4: rain", RING) == [((200, 80), "rain")]
    assert spans("24-4: rain", RING) == [((0, 40), "rain")]
    assert spans("0-24: rain", RING) == [((0, 240), "rain")]
    assert spans("20-: rain", RING) == [((200, 40), "rain")]
    # views lie at 0-10, 8-18 and 16-2 s; their parts begin at 1, 9 and 17 s
    assert spans("1v: a\n2v: b\n3v: c\n3-1v: d", RING) == [
        ((10, 80), "a"), ((90, 80), "b"), ((170, 80), "c"), ((170, 160), "d"),
    ]  # fmt: skip


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("starts", ["even", "uneven"])
def test_parts_of_views_cover_the_canvas_once(loop, starts):
    plan = plan_views(101, 30, 0.7, loop)
    if starts == "uneven":
        plan = ViewPlan((0, 3, 25, 40, 66, 71), 30, 101, loop)
    text = "\n".join(f"{i + 1}v: {i}" for i in range(len(plan)))
    prompts, found = prompt_weights(read_timeline(text, Ruler(plan)), Ruler(plan))
    assert len(prompts) == len(plan) and torch.equal(found.sum(0), torch.ones(101))
    for i, (start, row) in enumerate(zip(plan.starts, found, strict=True)):
        assert row[(start + 15) % 101] == 1, i


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0-8 gentle rain", "Line 1 (0-8 gentle rain) begins like a span but cannot be read"),
        ("rain\n\n8..20: bells", "Line 3 (8..20: bells) begins like a span but cannot be read"),
        ("0-end: rain", "cannot be read"),
        ("0 to 8: rain", "cannot be read"),
        ("0,5-8: rain", "cannot be read"),
        ("8: rain", "cannot be read"),
        ("-5-8: rain", "cannot be read"),
        ("0-8x: rain", "cannot be read"),
        ("-: rain", "Line 1 (-: rain) has a dash but no number"),
        ("0-8: a\n8-2: bells", "Line 2 (8-2: bells) ends before it starts, and the canvas is no loop"),
        ("3-1v: bells", "ends before it starts"),
        ("0-21: rain", "Line 1 (0-21: rain) lies outside the canvas, which is 20 s long."),
        ("0-" + "9" * 400 + ": rain", "outside the canvas"),
        ("5-5: rain", "shorter than one latent column (0.1 s)"),
        ("5-5.04: rain", "shorter than one latent column (0.1 s)"),
        ("0-8px: rain", "counts in px, but the plan counts in seconds; use s, v or no suffix"),
        ("0s-2v: rain", "counts in s and v"),
        ("0-2v: rain", "expected whole numbers from 1 to 3"),
        ("1-4v: rain", "expected whole numbers from 1 to 3"),
        ("1.5v-2v: rain", "expected whole numbers from 1 to 3"),
        ("4v: rain", "expected whole numbers from 1 to 3"),
        ("9" * 5000 + "v: rain", "expected whole numbers from 1 to 3"),
        ("0-8:  ", "Line 1 (0-8:) has no prompt"),
        ("default:", "Line 1 (default:) has no prompt"),
        ("rain\n0-8: a\ndefault: sun", "Line 3 (default: sun) is a second line without a span, after line 1 (rain)"),
        (" \n\n", "got an empty one"),
    ],
)
def test_a_wrong_line_is_named(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        read_timeline(text, OPEN)


def test_a_span_beyond_a_loop_is_told_how_to_go_around():
    with pytest.raises(ValueError, match=r"20-28.*24 s long; on a loop a span goes on at the start, as in `20-4`"):
        read_timeline("20-28: rain", RING)


def test_a_long_line_is_cut_in_messages():
    with pytest.raises(ValueError, match=r"Line 1 \(0-21: (word ){10}w\.\.\.\) lies outside"):
        read_timeline("0-21: " + "word " * 500, OPEN)


@pytest.mark.parametrize(
    ("text", "ruler", "stretch"),
    [
        ("0-8: rain", OPEN, "8 s to 20 s"),
        ("5-20: rain", OPEN, "0 s to 5 s"),
        ("0-8: rain\n9-20: bells", OPEN, "8 s to 9 s"),
        ("20-4: rain\n5-20: sun", RING, "4 s to 5 s"),
        ("0-512: sky", WIDE, "512 px to 2552 px"),
        ("0-64: sky", Ruler(WIDE.plan), "64 latent columns to 319 latent columns"),
    ],
)
def test_a_stretch_without_prompt_is_named(text, ruler, stretch):
    with pytest.raises(ValueError, match=f"no line covers {re.escape(stretch)}; .*default"):
        prompt_weights(read_timeline(text, ruler), ruler)


# what is written, and the same in columns
SCENES = [
    (OPEN, "0-8: a\n8-20: b", [(0, 80, "a"), (80, 200, "b")]),
    (OPEN, "8-12: a\nb", [(80, 120, "a"), (None, None, "b")]),
    (OPEN, "0-12: a\n8-20: b", [(0, 120, "a"), (80, 200, "b")]),
    (OPEN, "0-20: a\n8-8.3: b\n8.3-9: c", [(0, 200, "a"), (80, 83, "b"), (83, 90, "c")]),
    (OPEN, "0-5: a\n5-10: b\n10-20: a", [(0, 50, "a"), (50, 100, "b"), (100, 200, "a")]),
    (RING, "20-4: a\n4-20: b", [(200, 40, "a"), (40, 200, "b")]),
    (RING, "23-1: a\ndefault: b", [(230, 10, "a"), (None, None, "b")]),
    (RING, "0-12: a\n12-24: b", [(0, 120, "a"), (120, 240, "b")]),
]


@pytest.mark.parametrize("fade", [0, 1, 10, 26])
@pytest.mark.parametrize("scene", range(len(SCENES)))
def test_weights_are_the_mean_of_who_speaks_nearby(scene, fade):
    ruler, text, columns = SCENES[scene]
    # as many points as the window has half columns: each lies within one column, so the mean is exact
    expected = literal(columns, ruler.plan.length, fade, ruler.plan.loop, parts=max(20, 2 * fade))
    agree(weights(text, ruler, fade), expected)


def test_an_odd_cross_fade_is_centred():
    found = weights("0-8: a\n8-20: b", fade=5)
    torch.testing.assert_close(found["a"][77:83], torch.tensor([1, 0.8, 0.6, 0.4, 0.2, 0]), atol=1e-6, rtol=0)


def test_a_default_that_is_not_needed_is_left_out():
    assert list(weights("rain\n0-20: sun", fade=30)) == ["sun"]
    assert torch.equal(weights("rain")["rain"], torch.ones(200))


def test_far_columns_are_exactly_free():
    """A prompt that weighs a rounding error would cost a model window."""
    found = weights("0-8: a\n8-12: b\n12-20: c", fade=7)
    assert not found["a"][84:].any() and not found["b"][:76].any() and not found["c"][:116].any()
    seen = prompts_of_views(torch.stack([*found.values()]), OPEN.plan)  # columns 0-79, 60-139, 120-199
    assert seen.tolist() == [[True, True, False], [True, True, True], [False, True, True]]


def test_a_cross_fade_as_wide_as_a_ring():
    ruler = Ruler(plan_views(24, 24, 0.0, loop=True))
    found = weights("0-12: a\n12-24: b", ruler, 24)
    torch.testing.assert_close(found["a"], torch.full((24,), 0.5))


def test_a_view_takes_the_prompt_that_weighs_most_on_it():
    # views 0-80, 60-140 and 120-200: a has 80, 10 and 0 of their columns
    lines = read_timeline("0-7: a\ndefault: c\n7-20: b", OPEN)
    prompts, found = prompt_weights(lines, OPEN)
    chosen = prompt_of_views(lines, prompts, found, OPEN.plan)
    assert [prompts[i] for i in chosen] == ["a", "b", "b"]
    shares = weights_of_views(chosen, len(prompts), OPEN.plan)
    expected = torch.zeros(200)
    expected[:60], expected[60:80] = 1, 0.5
    assert torch.equal(shares[prompts.index("a")], expected) and torch.equal(shares.sum(0), torch.ones(200))


def test_of_equal_prompts_a_view_takes_the_first():
    lines = read_timeline("0-4: a\n4-10: b\n10-20: c", OPEN)
    prompts, found = prompt_weights(lines, OPEN, 10)
    assert prompt_of_views(lines, prompts, found, OPEN.plan).tolist() == [0, 1, 2]


def test_a_prompt_that_no_view_would_take_is_refused():
    lines = read_timeline("rain\n8-9: bells", OPEN)
    with pytest.raises(ValueError, match=r"Line 2 \(8-9: bells\) weighs most on none of the 3 views.*columns"):
        prompt_of_views(lines, *prompt_weights(lines, OPEN), OPEN.plan)


def test_a_filler_may_lose_every_view():
    lines = read_timeline("0-9: rain\n10-20: bells\ndefault: wind", OPEN)
    prompts, found = prompt_weights(lines, OPEN)
    assert prompts[2] == "wind" and 2 not in prompt_of_views(lines, prompts, found, OPEN.plan)
