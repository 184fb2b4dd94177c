"""The README's table is the run's, and nothing else in the README changes."""

import pytest

from safa_pack.evaluation import readme
from safa_pack.evaluation.protocol import load

pytestmark = pytest.mark.tools

FACTS = {"command": "python run.py eval --pocket", "machine": "two cores"}


def line(method, fd, **more):
    given = {"protocol": "pocket", "method": method, "overlap": 0.2, "columns": 306, "accuracy": 0.9, "fd": fd}
    given |= {"fd_error": 0.25, "fd_limit": 0.5}
    spectrum = {"own": {"absolute": 0.5, "absolute_error": 0.1}}
    return given | {"windows": 126, "similarity": 0.9, "spectrum": spectrum} | more


def test_figures_stand_between_the_marks_and_the_rest_stays(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n", encoding="utf-8")
    lines = [line("single", 2.0), line("safa", 3.0), line("average", 6.0), {"protocol": "pocket", "arm": "real"}]
    for _ in range(2):
        assert readme.update(file, lines, [load("pocket")], FACTS)
    text = file.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert text.count("python run.py eval --pocket` on two cores") == 1
    (safa,) = (row for row in text.splitlines() if row.startswith("| SaFa"))
    assert "| 3 ± 0.25 |" in safa and "| 0.50 |" in safa and "| +0.50 |" in safa


@pytest.mark.parametrize("text", ["no marks", readme.BEGIN + " only the first"])
def test_a_readme_without_marks_is_left_alone(text, tmp_path):
    file = tmp_path / "README.md"
    file.write_text(text, encoding="utf-8")
    assert not readme.update(file, [], [], FACTS)
    assert not readme.update(tmp_path / "none.md", [], [], FACTS)
    assert file.read_text(encoding="utf-8") == text


def test_the_readme_of_the_repository_has_a_place_for_them():
    text = (readme.Path(readme.__file__).parents[1] / "docs" / "measurements.md").read_text(encoding="utf-8")
    assert readme.BEGIN in text and readme.END in text.partition(readme.BEGIN)[2]
