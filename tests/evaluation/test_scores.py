"""The interface of the scores, and those that need no backbone."""

import dataclasses

import pytest
import torch

from safa_pack.evaluation.scores import SCORES, Measures, Samples, averaged

pytestmark = pytest.mark.tools


def sound(canvas=(0, 0, 1), prompts=("rain", "rain", "bells"), **more):
    return Samples(torch.zeros(len(canvas), 8), canvas, prompts, 16000, **more)


def test_runtime_and_windows_count_one_canvas(tmp_path):
    samples = sound(seconds=6.0, evaluations=42)
    assert SCORES["runtime"].compute(samples, None, tmp_path) == pytest.approx(3)
    assert SCORES["windows"].compute(samples, None, tmp_path) == pytest.approx(21)


@pytest.mark.parametrize("name", ["runtime", "windows"])
def test_a_cost_that_nobody_measured_is_no_zero(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name}: expected samples that know"):
        SCORES[name].compute(sound(), None, tmp_path)


def test_shards_of_unequal_size_count_by_their_canvases(tmp_path):
    score = SCORES["runtime"]
    parts = [score.measure(sound(seconds=6.0), tmp_path), score.measure(sound((0,), ("rain",), seconds=12.0), tmp_path)]
    assert averaged(score, Measures.together(parts), None) == pytest.approx(18 / 3)


def rows(values, prompts, positions):
    return Measures(torch.tensor(values)[:, None], prompts, positions)


def test_subsets_by_prompt_and_position_meet_the_real_rows_of_their_prompt():
    seen = []

    def reduce(generated, real):
        seen.append((generated.rows.flatten().tolist(), real.rows.flatten().tolist()))
        return float(len(seen))

    score = dataclasses.replace(SCORES["runtime"], needs_real=True, reduce=reduce)
    made = rows([1.0, 2.0, 3.0, 4.0], ("a", "a", "b", "a"), (0, 1, 0, 0))
    real = rows([10.0, 20.0], ("b", "a"), (0, 0))
    assert averaged(score, made, real, by=("prompt", "position")) == pytest.approx((1 + 2 + 3) / 3)
    assert seen == [([1.0, 4.0], [20.0]), ([2.0], [20.0]), ([3.0], [10.0])]
    averaged(score, made, real)
    assert seen[3] == ([1.0, 2.0, 3.0, 4.0], [10.0, 20.0])


def test_a_score_without_the_real_windows_it_needs_is_refused():
    score = dataclasses.replace(SCORES["runtime"], needs_real=True)
    with pytest.raises(ValueError, match="runtime: expected real windows"):
        averaged(score, rows([1.0], ("a",), (0,)), None)


def test_windows_know_their_place_on_their_canvas():
    samples = sound((5, 2, 5, 2, 2), tuple("abcde"))
    assert samples.canvases == {5: [0, 2], 2: [1, 3, 4]}
    assert samples.positions == (0, 0, 1, 1, 2)


@pytest.mark.parametrize(
    "windows, rate, canvas, message",
    [
        (torch.zeros(2, 8), None, (0, 1), "got \\[2, 8\\]"),
        (torch.zeros(2, 1, 8), 16000, (0, 1), "got \\[2, 1, 8\\]"),
        (torch.zeros(2, 4, 8, 8), None, (0, 1), "Expected pictures \\[N, 3, H, W\\]"),
        (torch.zeros(2, 8), 16000, (0,), "2 windows, 1 canvases"),
        (torch.zeros(0, 8), 16000, (), "at least one window"),
        (torch.full((2, 8), torch.nan), 16000, (0, 1), "finite"),
        (torch.full((2, 3, 4, 4), -1.0), None, (0, 1), "0 ... 1, got values from -1 to -1"),
    ],
)
def test_samples_that_do_not_fit_are_refused(windows, rate, canvas, message):
    with pytest.raises(ValueError, match=message):
        Samples(windows, canvas, ("rain",) * len(canvas), rate)
