"""Sweeps of rate and interval: their plot and names; no figure of the paper's setting comes from them."""

import pytest
from PIL import Image

from safa_pack.evaluation import sweeps
from safa_pack.evaluation.protocol import Arm, Protocol, load, pieces
from safa_pack.evaluation.readme import short
from safa_pack.evaluation.report import method_name
from safa_pack.evaluation.verdict import arm, verdicts
from safa_pack.evaluation.work import task
from safa_pack.training.sounds import CLASSES

pytestmark = pytest.mark.tools


def line(method, **more):
    given = {"protocol": "sweep", "method": method, "overlap": 0.2, "columns": 306, "accuracy": 0.9, "fd": 3.0}
    return given | {"similarity": 0.99, "within": 1.0} | more


LINES = [line("single"), line("safa", rate=0.3), line("swap", rate=0.0, interval=1), line("swap", interval=4)]


def test_both_sweeps_are_drawn_in_their_order(tmp_path):
    assert [part["rate"] for part in sweeps.points(LINES, "rate")] == [0.0, 0.3]
    assert [part["interval"] for part in sweeps.points(LINES, "interval")] == [1, 4]
    (path,) = sweeps.draw(tmp_path / "sweeps.png", LINES)
    with Image.open(path) as picture:
        assert picture.height > picture.width / 3  # two rows of four panels
    assert sweeps.draw(tmp_path / "none.png", LINES[:1]) == []


def test_points_of_a_sweep_answer_no_question_about_the_papers_setting():
    assert arm(LINES, "safa") is None
    assert len(verdicts(LINES + [line("safa", rate=0.6, fd=9.0)])) == 1  # the single windows' own
    assert method_name(LINES[1]).endswith("rate 0.3")
    protocol = Protocol("sweep", "a sweep", (Arm("safa", rate=0.3),))
    assert "SaFa" not in short(LINES, [protocol], {"command": "eval", "machine": "two cores"})


def test_an_arms_rate_and_interval_take_the_place_of_the_protocols():
    protocol = load("pocket_sweeps")
    assert len({a.label for a in protocol.arms}) == len(protocol.arms)
    used = {part[0].arm.label: part[0] for part in zip(*pieces(protocol, CLASSES, 7), strict=True)}

    class Model:
        view, columns_per_second = 128, 25

    rates = {task(piece, protocol, Model()).protocol.rate for piece in used.values()}
    assert {0.2, 0.3, 1.0} <= rates
    assert {task(piece, protocol, Model()).protocol.interval for piece in used.values()} >= {1, 4, 16}
