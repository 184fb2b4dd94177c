"""Messages of libraries in one line."""

import pytest

from safa_pack.safa_core.errors import shorten

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("message", "short"),
    [
        ("cannot open file.", "cannot open file"),
        ("\n size mismatch. \n at line 3", "size mismatch"),
        ("", "ValueError"),
        ("x" * 300, "x" * 200),
    ],
)
def test_only_the_first_line_is_left(message, short):
    assert shorten(ValueError(message)) == short
