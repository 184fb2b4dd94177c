"""Files that are whole or not there, the comparison's picture, and the lines in the terminal."""

import io

import numpy as np
import pytest
from PIL import Image

from safa_pack.demo.files import put
from safa_pack.demo.pictures import BAND, HEAD, MARGIN, comparison
from safa_pack.demo.report import Report

pytestmark = pytest.mark.tools


def test_files_appear_with_their_content_in_a_new_folder_and_replace_older_ones(tmp_path):
    out = tmp_path / "a" / "b"
    put(out, {"loop.wav": b"old"})
    put(out, {"loop.wav": b"new", "spectrogram.png": b"picture"})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "loop.wav": b"new",
        "spectrogram.png": b"picture",
    }


def test_a_disk_that_fills_up_leaves_the_older_files_and_no_half_ones(tmp_path, monkeypatch):
    put(tmp_path, {"loop.wav": b"old"})
    write = type(tmp_path).write_bytes

    def full(path, content):
        write(path, content[:2])
        if "spectrogram" in path.name:
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        put(tmp_path, {"loop.wav": b"newer", "spectrogram.png": b"picture"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"loop.wav": b"old"}


def test_the_comparison_shows_every_picture_whole_and_in_order():
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    rows = [(f"method {i}", Image.new("RGB", (300, 80 + 10 * i), colour)) for i, colour in enumerate(colours)]
    sheet = np.asarray(comparison(rows, "rain " * 100, "what is what"))
    assert sheet.shape == (HEAD + 3 * BAND + 80 + 90 + 100 + MARGIN, 300, 3)
    top = HEAD
    for label, picture in rows:
        band = sheet[top : top + BAND]
        assert band.std() > 5, label  # its name is written there
        top += BAND
        np.testing.assert_array_equal(sheet[top : top + picture.height], np.asarray(picture))
        top += picture.height
    assert sheet[:HEAD].std() > 5
    assert sheet[:HEAD, -5:].reshape(-1, 3).std(0).max() == 0  # the long prompt does not run out of the picture


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_in_a_file_is_a_few_lines():
    stream = io.StringIO()
    report = Report(stream)
    for step in range(1, 51):
        report.progress("SaFa: step", step, 50)
    report.progress("average: step", 1, 50)
    lines = stream.getvalue().splitlines()
    assert 10 <= len(lines) <= 13
    assert lines[-2:] == ["[safa] SaFa: step 50 of 50", "[safa] average: step 1 of 50"]


def test_progress_in_a_terminal_is_one_line_that_ends_before_the_next_sentence():
    stream = Terminal()
    report = Report(stream)
    report.progress("SaFa: step", 100, 100)
    report.progress("SaFa: step", 1, 100)
    report.say("done")
    assert stream.getvalue().replace("\r", "|") == (
        "|[safa] SaFa: step 100 of 100|[safa] SaFa: step 1 of 100  \n[safa] done\n"
    )
