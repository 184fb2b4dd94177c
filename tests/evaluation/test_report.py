"""Pages and pictures say what the lines say; the published ones are made of the published lines."""

import json
from pathlib import Path

import pytest
from PIL import Image

from safa_pack.evaluation import claims, drawing, measurements, report
from safa_pack.evaluation.protocol import load

pytestmark = pytest.mark.tools

DOCS = Path(report.__file__).parents[1] / "docs"


def line(row, method, fd, **more):
    given = {"row": row, "method": method, "rate": 0.3, "interval": 1, "sweeps": None, "views": 3, "canvases": 42}
    given |= {"evaluations": 150.0, "seconds": 4.0, "errors": {"fd@pocket": 0.25}, "missing": {}}
    scores = {"recognised": 0.9, "fd@pocket": fd, "fd@pocket/average": fd / 6, "fd_limit@pocket": 0.5}
    return given | {"scores": scores | {"deficit_absolute": 0.5, "similarity": 0.9, "within": 1.0}} | more


LINES = [line("single windows", "single", 2.0), line("SaFa", "safa", 3.0), line("MD", "average", 6.0)]
COLUMNS = {"recognised": "recognised", "fd@pocket": "FD", "fd@pocket/average": "FD / average"}


def group(lines, protocol="pocket", columns=COLUMNS):
    facts = {
        "command": "python run.py eval --pocket",
        "machine": "two cores",
        "sentences": ["25 steps."],
        "controls": [],
    }
    return {
        "protocol": protocol,
        "model": "tiny",
        "facts": facts,
        "columns": columns,
        "details": {},
        "lines": lines,
    }


def test_the_published_page_is_that_of_the_published_lines():
    groups = report.read_groups(DOCS / "pocket_eval.jsonl")
    assert (DOCS / "pocket_eval.md").read_text(encoding="utf-8") == report.markdown(groups)
    published = [load(one["protocol"]) for one in groups]
    assert [one.name for one in published if one.pocket] == [one["protocol"] for one in groups]
    page = DOCS / "measurements.md"
    if page.is_file():  # its tables are those of the same lines
        assert f"{measurements.BEGIN}\n\n{measurements.short(groups)}\n\n{measurements.END}" in page.read_text("utf-8")


def test_figures_stand_between_the_marks_and_the_rest_stays(tmp_path):
    file = tmp_path / "measurements.md"
    file.write_text(f"before\n{measurements.BEGIN}\nold\n{measurements.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        assert measurements.update(file, [group(LINES), group(LINES, "pocket_sweeps")])
    text = file.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert text.count("python run.py eval --pocket` on two cores") == 1
    (safa,) = (row for row in text.splitlines() if row.startswith("| SaFa"))  # that of the sweeps is left out
    assert "| 3 ± 0.25 |" in safa and "| 0.50 |" in safa and "| +0.50 |" in safa


@pytest.mark.parametrize("text", ["no marks", measurements.BEGIN + " only the first"])
def test_a_page_without_marks_is_left_alone(text, tmp_path):
    file = tmp_path / "measurements.md"
    file.write_text(text, encoding="utf-8")
    assert not measurements.update(file, [])
    assert not measurements.update(tmp_path / "none.md", [])
    assert file.read_text(encoding="utf-8") == text


def test_a_claim_stands_beside_what_was_measured_with_its_error():
    (recognised,) = (row for row in claims.rows(load("pocket"), LINES) if "prompts" in row[0])
    assert recognised[1:] == [
        "Table 2, U-Net",
        "CLAP: reference 0.53, SaFa 0.53",
        "single windows: 90.0%, SaFa: 90.0%",
    ]
    (distance, *_) = claims.rows(load("pocket"), LINES)
    assert distance[3] == "SaFa: 3 ± 0.25, MD: 6 ± 0.25"  # rows that were not made are left out
    assert claims.rows(load("pocket"), []) == []


def test_the_best_is_bold_where_no_error_is_known_and_single_windows_are_no_rival():
    lines = [
        line(row, method, fd) for row, method, fd in (("a", "single", 1.0), ("b", "safa", 2.0), ("c", "swap", 3.0))
    ]
    for i, one in enumerate(lines):
        one["scores"]["fid"] = [1.0, 30.0, 40.0][i]
    table = drawing.Table([group(lines, columns={"fid": "FID↓", "fd@pocket": "FD"})])
    assert table.marked() == [["a", "1.00", "1 ± 0.25"], ["b", "**30.00**", "2 ± 0.25"], ["c", "40.00", "3 ± 0.25"]]


def test_what_is_missing_is_a_note_once():
    why = "no weights: put them there."
    lines = [line("a", "safa", 1.0, scores={}, missing={"fid": why, "kid": why})]
    table = drawing.Table([group(lines, columns={"fid": "FID↓", "kid": "KID↓", "clip": "CLIP↑"})])
    assert table.rows == [["a", "no weights [1]", "no weights [1]", "–"]] and table.notes == [why]


def test_both_sweeps_are_drawn_in_their_order(tmp_path):
    swept = [
        line("rate 0.3", "safa", 3.0, sweeps=["rate"]),
        line("both", "swap", 3.0, rate=0.0, sweeps=["rate", "interval"]),
        line("w = 4", "swap", 3.0, interval=4, sweeps=["interval"]),
    ]
    assert [one["rate"] for one in drawing.points([LINES[0], *swept], "rate")] == [0.0, 0.3]
    assert [one["interval"] for one in drawing.points([LINES[0], *swept], "interval")] == [1, 4]
    part = load("pocket_sweeps").part("pocket")
    assert {axis for row in part.rows for axis in row.sweeps or ()} == set(load("pocket_sweeps").axes)
    (_, _, path) = report.write(tmp_path, "page", [group([LINES[0], *swept], "pocket_sweeps")], [])
    with Image.open(path) as picture:
        assert picture.height > picture.width / 3  # two rows of panels
    assert json.loads((tmp_path / "page.jsonl").read_text().splitlines()[1])["model"] == "tiny"
