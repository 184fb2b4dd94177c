"""The table of the host's templates: every template that is run is in it, and what is around it stays."""

import pytest

from safa_pack.benchmarks.templates import HEAD, PAGE, put, row
from safa_pack.tests.host_templates.listed import TEMPLATES
from safa_pack.tests.host_templates.runs import Outcome

pytestmark = pytest.mark.host


def test_the_page_lists_every_template_that_is_run():
    page = PAGE.read_text(encoding="utf-8")
    assert len(TEMPLATES) >= 30
    assert [template.name for template in TEMPLATES if f"| {template.name} |" not in page.replace("`", "")] == []


def test_writing_the_table_again_changes_nothing_around_it():
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(HEAD)[0], page.split("<!-- end of table -->")[1]
    again = put(page, f"{HEAD}\n| one | line |")
    assert again == f"{before}{HEAD}\n| one | line |\n\n<!-- end of table -->{after}"


def test_a_wrong_size_and_a_difference_are_told():
    line = row(TEMPLATES[0], Outcome((100, 64), (160, 64), 0.5, None))
    assert "100 x 64, expected 160 x 64" in line and "5e-01" in line and line.endswith("| – |")
