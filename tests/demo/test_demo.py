"""The demo as a person runs it, with a real server: what it writes, and what it leaves when it is disturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

pytestmark = pytest.mark.server
FEW = ["--steps", "2", "--seconds", "6", "--prompt", "gentle purple rain"]
PATIENCE = 600  # seconds; a busy machine


def end_by_signals():
    """For a new process: a script's background ignores Ctrl-C and more, and whatever it starts inherits that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Running:
    """`python -m demo` in a clone, as run.py starts it from a terminal."""

    def __init__(self, clone, out, *arguments):
        self.clone, self.out = clone, out
        command = [sys.executable, "-m", "demo", "--out", str(out), *arguments]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        if os.name != "nt":
            options["preexec_fn"] = end_by_signals
        self.process = subprocess.Popen(command, cwd=clone.root, env=clone.environment, **options)

    def finished(self):
        """(exit code, stdout, stderr)"""
        told, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, told, errors

    def server(self):
        """The process id of its server, as soon as there is one; from /proc, of a command that names its folder."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    command = place.read_bytes().split(b"\0")
                except OSError:
                    continue
                if any(part.startswith(os.fsencode(self.clone.temporary)) for part in command):
                    return int(place.parent.name)
            time.sleep(0.05)
        raise AssertionError(f"Expected a server, got {self.process.communicate()}.")

    def wait_for(self, text):
        """Read on until a line holds the text."""
        for line in self.process.stdout:
            if text in line:
                return
        raise AssertionError(f"Expected {text!r}, got {self.process.communicate()}.")


def gone(process):
    """Whether a process has ended, within the time that the system needs to say so."""
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{process}").exists()


def test_one_command_writes_a_loop_and_its_spectrogram(clone, tmp_path):
    out = tmp_path / "new" / "out"
    code, told, errors = Running(clone, out, *FEW).finished()
    assert code == 0, (told, errors)
    assert sorted(path.name for path in out.iterdir()) == ["loop.wav", "spectrogram.png"]
    with soundfile.SoundFile(out / "loop.wav") as file:
        assert (file.samplerate, file.frames, file.channels) == (16000, 6 * 16000, 1)
        sound = file.read()
    assert np.isfinite(sound).all() and sound.std() > 1e-4
    written = (out / "loop.wav").read_bytes()
    assert b"smpl" in written and b"gentle purple rain" in written  # loop points, and the workflow
    assert "workflow" in Image.open(out / "spectrogram.png").info  # the page opens it
    for part in ("SaFa: step 2 of 2", "unknown to this model", "purple", f"{out / 'loop.wav'}", "run.py serve"):
        assert part in told
    assert not errors
    assert clone.leftovers() == []


def test_the_comparison_shows_every_method_once(clone, tmp_path):
    out = tmp_path / "out"
    code, told, errors = Running(clone, out, *FEW, "--compare", "--method", "average").finished()
    assert code == 0, (told, errors)
    assert sorted(path.name for path in out.iterdir()) == ["compare.png", "loop.wav", "spectrogram.png"]
    spectrogram, compare = Image.open(out / "spectrogram.png"), Image.open(out / "compare.png")
    width, height = spectrogram.size
    assert compare.width == width and compare.height > 3 * height
    rows = np.asarray(compare, dtype=float)
    whole = np.asarray(spectrogram.convert("RGB"), dtype=float)
    places = [top for top in range(compare.height - height + 1) if np.array_equal(rows[top : top + height], whole)]
    assert len(places) == 1  # the average's; the two others differ
    for method in ("SaFa", "average", "triangular"):
        assert f"{method}: step 2 of 2" in told


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_no_process_and_no_file(number, clone, tmp_path):
    running = Running(clone, tmp_path / "out", *FEW)
    server = running.server()
    if number == signal.SIGINT:  # in the middle of the work; the other, while the server starts
        running.wait_for("SaFa: step")
    os.kill(running.process.pid, number)
    code, _, errors = running.finished()
    assert (code, errors) == (1, "run.py: Interrupted; run it again to go on.\n")
    assert gone(server)
    assert clone.leftovers() == [] and not (tmp_path / "out").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_a_killed_server_is_one_sentence_with_the_end_of_its_log(clone, tmp_path):
    running = Running(clone, tmp_path / "out", *FEW, "--steps", "1000")
    server = running.server()
    running.wait_for("SaFa: step")
    os.kill(server, signal.SIGKILL)
    code, _, errors = running.finished()
    log = tmp_path / "out" / "server.log"
    sentence, *tail = errors.splitlines()
    assert code == 1
    assert sentence == (
        f"run.py: ComfyUI stopped in the middle of the work (killed by signal 9). Its log is {log} and ends with:"
    )
    assert tail and [line[2:] for line in tail][-1] in log.read_text().replace("\r", "\n")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["server.log"]
    assert clone.leftovers() == []


def test_a_server_that_does_not_start_is_one_sentence_with_the_end_of_its_log(clone, tmp_path):
    broken = tmp_path / "host"
    broken.mkdir()
    (broken / "main.py").write_text("raise SystemExit('no such device')")
    clone.environment["SAFA_COMFYUI_PATH"] = str(broken)
    code, _, errors = Running(clone, tmp_path / "out", *FEW).finished()
    assert code == 1
    assert errors.startswith("run.py: ComfyUI did not start (exit code 1). Its log is ")
    assert errors.endswith("  no such device\n")
    assert clone.leftovers() == []
