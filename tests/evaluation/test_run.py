"""A whole evaluation on a random model: resumed, budgeted, reported, and refused where it makes no sense."""

import json
from types import SimpleNamespace

import pytest
import torch

from safa_pack.evaluation import command, report
from safa_pack.evaluation.classifier import Classifier, Recipe
from safa_pack.evaluation.control import controls
from safa_pack.evaluation.figures import gather, single_sets, summary
from safa_pack.evaluation.metrics import frechet_distance
from safa_pack.evaluation.model import PocketModel
from safa_pack.evaluation.protocol import Arm, Protocol, load, names, parse, pieces
from safa_pack.evaluation.store import Run
from safa_pack.evaluation.verdict import verdicts
from safa_pack.evaluation.work import caption, check, run_real, seams
from safa_pack.tests.evaluation import pocket
from safa_pack.training.sounds import CLASSES

pytestmark = pytest.mark.tools

FEATURES = 8
RECIPE = Recipe(frames=4 * pocket.VIEW, features=FEATURES, held_out=1)
PROTOCOL = Protocol(
    name="test",
    title="a test",
    arms=tuple(Arm(name) for name in ("single", "safa", "swap", "triangular", "average")) + (Arm("average", 0.8),),
    steps=2,
    seeds=1,
    record=1,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pocket.write(tmp_path_factory.mktemp("pocket"))


@pytest.fixture(scope="module")
def model(folder):
    return PocketModel(folder, batch=64)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return Classifier(FEATURES).eval()


def options(minutes=None):
    return SimpleNamespace(chunk=7, minutes=minutes)


@pytest.fixture(scope="module")
def finished(model, network, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("run"), PROTOCOL.settings())
    run_real(model, network, RECIPE, run)
    assert command.work_through([(PROTOCOL, run)], model, network, options())
    return run


def test_a_second_run_skips_what_is_done(finished, model, network):
    again, before = Run(finished.folder, PROTOCOL.settings()), model.evaluations
    assert again.lines == finished.lines
    assert command.work_through([(PROTOCOL, again)], model, network, options())
    assert model.evaluations == before


def test_more_seeds_add_to_what_is_there(finished):
    more = load("pocket", seeds=2).settings()
    assert more == load("pocket", seeds=5).settings()
    assert more != load("pocket", steps=7).settings()


def test_an_interrupted_line_is_made_again_and_other_settings_are_refused(tmp_path):
    settings = {"steps": 2}
    run = Run(tmp_path, settings)
    for key in ("a", "b"):
        run.save(key, {"seed": 0}, {"x": torch.ones(2)})
    cut = run.results.read_text()[:-5]
    run.results.write_text(cut)
    again = Run(tmp_path, settings)
    assert "a" in again and "b" not in again
    again.save("b", {"seed": 0}, {"x": torch.zeros(2)})
    assert list(Run(tmp_path, settings).lines) == ["a", "b"]
    assert not again.tensors("b")["x"].any()
    with pytest.raises(ValueError, match="steps differ"):
        Run(tmp_path, {"steps": 3})


def test_no_time_left_starts_nothing_and_counts_stay_equal(finished, model, network, tmp_path):
    empty = Run(tmp_path / "empty", PROTOCOL.settings())
    before = model.evaluations
    assert not command.work_through([(PROTOCOL, empty)], model, network, options(minutes=0))
    assert model.evaluations == before
    assert summary(empty, PROTOCOL, model, 7) == []
    # one arm of the second round is missing: the whole round is left out for every arm
    part = Run(tmp_path / "part", PROTOCOL.settings())
    for key, line in finished.lines.items():
        if key != f"average-0.8-3w-seed0-{CLASSES[7]}":
            part.save(key, line, finished.tensors(key))
    made = gather(part, PROTOCOL, model, 7)
    assert {len(arm.truth) for name, arm in made.items() if name != "single"} == {7}
    assert len(made["single"].truth) == 7 * 2 * 3


def test_distances_are_taken_between_windows_of_the_same_prompts(finished, model):
    made = gather(finished, PROTOCOL, model, 7)
    count = seams(PROTOCOL, model)
    sets = single_sets(made["single"], count)
    assert count == 3
    assert [len(features) for features, _ in sets] == [len(CLASSES) * 3] * 2
    saved = finished.tensors(f"single-seed0-{CLASSES[0]}")["features"][:, 0]
    assert torch.equal(sets[0][0][:6], torch.cat([saved[:3], saved[6:9]]))  # two prompts' first halves
    line = next(line for line in summary(finished, PROTOCOL, model, 7) if line["arm"] == "safa-0.2-3w")
    assert line["fd"] == pytest.approx(frechet_distance(made["safa-0.2-3w"].features["seam"].flatten(0, 1), sets[0][0]))
    assert line["windows"] == len(CLASSES) * 3


def test_report_has_every_arm_and_a_picture(finished, model, network, tmp_path):
    lines = summary(finished, PROTOCOL, model, 7)
    lines[-1]["controls"] = controls(finished, PROTOCOL, model, network, 7)
    assert controls(finished, PROTOCOL, model, None, 7) == lines[-1]["controls"]  # kept, not made again
    assert lines[-1]["controls"][0] == {"change": "none", "fd": pytest.approx(lines[0]["fd"])}
    assert [line["arm"] for line in lines] == [arm.label for arm in PROTOCOL.arms] + ["real"]
    facts = {
        "command": "python run.py eval --pocket",
        "machine": report.machine(),
        "classifier": {"held_out": 0.99, "clips": 420},
        "autocast": None,
        "minutes": 3.0,
    }
    page, raw, picture = report.write(tmp_path, lines, [PROTOCOL], facts)
    text = page.read_text()
    assert "| 3 copies of one window per prompt |" in text
    assert "SaFa* (no reference), 0.2, 36 columns" in text and "average (MD), 0.8, 36 columns" in text
    assert f"{lines[1]['fd'] / lines[4]['fd']:.2f}" in text
    assert picture.read_bytes()[1:4] == b"PNG"
    assert len(raw.read_text().splitlines()) == 1 + len(lines)
    assert json.loads(raw.read_text().splitlines()[2])["method"] == "safa"
    assert all("yes" in row or "no" in row or "–" in row for row in text.splitlines() if row.startswith("| FD("))


def test_a_verdict_is_withheld_where_average_shows_no_deficit():
    def line(method, fd, deficit):
        own = {"relative": deficit, "absolute": deficit, "relative_error": 0.5, "absolute_error": 0.1}
        return {"method": method, "overlap": 0.2, "fd": fd, "fd_limit": fd - 1, "spectrum": {"own": own, "single": own}}

    found = verdicts([line("safa", 5.0, 0.1), line("triangular", 8.0, 0.4), line("average", 10.0, 0.8)])
    assert [v.reached for v in found] == [True, True, None, True, True]
    found = verdicts([line("safa", 7.0, 0.3), line("triangular", 6.0, 0.4), line("average", 10.0, 0.8)])
    assert [v.reached for v in found] == [False, False, None, False, False]


def test_protocol_files_load_and_their_loops_plan():
    assert "pocket" in names()
    for name in names():
        protocol = load(name)
        assert protocol.arms[0].method == "single"
        assert all(len(arm.plan(128, 25)) >= 3 for arm in protocol.arms[1:])
    plan = Arm("safa").plan(128, 25)
    assert (plan.length, plan.starts) == (306, (0, 102, 204))
    assert Arm("average", 0.8).plan(128, 25).length == 306
    assert [Arm("safa", seconds=s).plan(128, 25).length for s in (24, 48, 72)] == [600, 1200, 1800]


def test_rounds_hold_every_arm_once():
    for part in pieces(PROTOCOL, CLASSES, 5):
        assert [piece.arm for piece in part] == list(PROTOCOL.arms)
        assert len({(piece.seed, piece.classes) for piece in part}) == 1


def test_seeds_have_their_own_captions():
    assert len({caption(CLASSES[0], seed) for seed in range(12)}) > 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"windows": 0}, "at least 2 windows"),
        ({"seeds": 0}, "`seeds` of at least 1"),
        ({"steps": 0}, "`steps` of at least 1"),
        ({"eta": 2.0}, "`eta` in"),
        ({"noise": "pink"}, "`noise` to be one of"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse("test", {"title": "", "arms": [{"method": "safa"}]}, **changes)


def test_unknown_keys_and_protocols_are_refused():
    with pytest.raises(ValueError, match="keys of Arm.*colour"):
        parse("test", {"title": "", "arms": [{"method": "safa", "colour": 1}]})
    with pytest.raises(ValueError, match="Expected a protocol of .*pocket"):
        load("nothing")


def test_too_few_windows_and_unknown_methods_are_refused_before_anything_runs(model):
    with pytest.raises(ValueError, match="more than 64 windows.*= 42: raise --seeds"):
        check(PROTOCOL, model, 64)
    with pytest.raises(ValueError, match="at least two windows"):
        check(Protocol("test", "", (Arm("safa", windows=2),)), model, 4)
    with pytest.raises(ValueError, match="Expected a method of"):
        check(Protocol("test", "", (Arm("magic"),)), model, 4)


def test_command_says_one_sentence(tmp_path, folder, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    for extra, sentence in (
        (["--model", str(tmp_path / "gone")], "does not exist"),
        (["--model", str(folder), "--out", str(blocked / "docs")], "can be written"),
        (["--model", str(folder), "--protocol", "nothing"], "Expected a protocol"),
        (["--model", str(folder), "--windows", "0"], "at least 2 windows"),
    ):
        assert command.main(["--pocket", "--data", str(tmp_path / "data"), *extra]) == 1
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1
