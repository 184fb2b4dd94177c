"""The seam scores hear a click and a change of spectrum where the seam is, and nothing where there is none."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from safa_pack.evaluation import windows
from safa_pack.evaluation.protocol import load
from safa_pack.evaluation.scores import SCORES, Measures, Samples

pytestmark = pytest.mark.tools
RATE = 16000
MODEL = SimpleNamespace(columns=lambda length, view: round(length / view * 128), latent_shape=lambda n: (8, 16, n))


def part_of(loop):
    return replace(load("seams_loop").part("audio"), loop=loop)


def score(name, sounds, loop, tmp_path):
    """Of several canvases [n, samples] of the protocol's first row."""
    part = part_of(loop)
    measures = []
    for sound in sounds:
        pieces, kinds = windows.joints(MODEL, part, part.rows[0], sound)
        samples = Samples(pieces, kinds, ("rain",) * len(pieces), RATE)
        measures.append(SCORES[name].measure(samples, tmp_path))
    together = Measures.together(measures)
    return SCORES[name].reduce(together, None), SCORES[name].error(together, None)


def noise(count):
    return 0.1 * torch.randn(count, round(12.24 * RATE), generator=torch.Generator().manual_seed(0))


def test_a_ring_of_noise_has_no_seam(tmp_path):
    for name in ("jump@seam", "change@seam"):
        value, error = score(name, noise(30), True, tmp_path)
        assert abs(value - 1) < 3 * error < 0.8


def test_a_click_at_the_loop_point_is_heard_there(tmp_path):
    time = torch.arange(round(12.24 * RATE)) / RATE
    sounds = torch.stack([torch.sin(2 * math.pi * (50.02 + 10 * i) * time + 1) for i in range(4)])
    assert score("jump@seam", sounds, True, tmp_path)[0] > 5
    assert score("change@seam", noise(3).cumsum(1), True, tmp_path)[0] > 1


def test_a_dull_overlap_of_an_open_canvas_is_heard(tmp_path):
    part = part_of(False)
    sounds = noise(6)
    plan = part.plan(part.rows[0], MODEL.columns)
    last = plan.starts[1] * sounds.shape[1] // plan.length  # where the second view begins
    middle = last + (plan.view - plan.starts[1]) * sounds.shape[1] // plan.length // 2
    sounds[:, middle:] = torch.nn.functional.avg_pool1d(sounds[:, None], 9, 1, 4)[:, 0, middle:]
    assert score("change@seam", sounds, False, tmp_path)[0] > 1.5


@pytest.mark.parametrize("name", ["ears", "ears_noise", "ears_lengths", "seams_loop", "seams_open"])
def test_the_protocols_can_be_planned_and_measured(name):
    part = load(name).part("audio")
    assert part.kinds and all(SCORES[column].fits("audio") for column in part.columns)
    for row in part.rows:
        plan = part.plan(row, MODEL.columns)
        assert row.single or len(plan) >= 3
    if part.reference == "copies":
        assert part.seeds * len(part.prompts) * 3 >= 280
