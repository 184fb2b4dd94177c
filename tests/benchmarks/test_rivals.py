"""The benchmark of the rivals: how 50 steps are reckoned from one of each kind, and what an interrupted run keeps."""

import json
import subprocess

import pytest

from safa_pack.benchmarks import rivals

pytestmark = pytest.mark.tools

OPTIONS = {"shrink": 2, "rounds": 1, "threads": 1, "backbone": "VAE features"}


def row(early, late, windows=(42, 42), gradients=0):
    kinds = [
        {"seconds": seconds, "windows": n, "gradients": g}
        for seconds, n, g in zip((early, late), windows, (gradients, 0), strict=True)
    ]
    return {"views": 21, "early": kinds[0], "late": kinds[1], "peak": 1000.0, "machine": "a machine"}


def kept(path, *methods):
    measured = {
        rivals.SAFA: row(4.0, 2.0, (14, 12)),
        rivals.MD: row(6.0, 6.0),
        rivals.MAD: row(8.0, 6.0),
        rivals.SYNC: row(86.0, 6.0, (84, 42), 40),
    }
    methods = {name: measured[name] for name in methods or measured}
    path.write_text(json.dumps({"options": OPTIONS, "methods": methods}))


def started(monkeypatch, path, *words):
    """Runs the benchmark's parent process; the methods that it starts children for, all of which fail."""
    asked = []

    def fails(command, **_):
        asked.append(command[command.index("--one") + 1])
        return subprocess.CompletedProcess(command, 1, stdout="")

    monkeypatch.setattr(subprocess, "run", fails)
    rivals.main(["--shrink", "2", "--json", str(path), *words])
    return asked


def test_fifty_steps_are_the_papers_shares_of_both_kinds(monkeypatch, tmp_path, capsys):
    kept(tmp_path / "it.json")
    assert started(monkeypatch, tmp_path / "it.json") == []
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    found = {cells[0].removeprefix("| "): (*map(int, cells[2:4]), *map(float, cells[6:8])) for cells in lines}
    assert found == {
        "SaFa": (15 * 14 + 35 * 12, 0, 15 * 4 + 35 * 2, 1.0),
        r"SaFa\*": (50 * 12, 0, 50 * 2, 0.77),
        "MultiDiffusion": (50 * 42, 0, 50 * 6, 2.31),
        "Merge-Attend-Diffuse": (50 * 42, 0, 25 * 8 + 25 * 6, 2.69),
        "SyncDiffusion": (10 * 84 + 40 * 42, 10 * 40, 10 * 86 + 40 * 6, 8.46),
    }
    assert [cells[8] for cells in lines[:3]] == ["1.00 / 1.00 / 1.00", "1.00 / 1.00 / –", "1.14 / 1.29 / 2.10"]


def test_what_was_measured_with_the_same_options_is_not_measured_again(monkeypatch, tmp_path, capsys):
    path = tmp_path / "it.json"
    kept(path, rivals.SAFA, rivals.SYNC)
    assert started(monkeypatch, path) == [rivals.MD, rivals.MAD]
    assert set(json.loads(path.read_text())["methods"]) == {rivals.SAFA, rivals.SYNC}  # what failed is left out
    assert "MultiDiffusion failed" in capsys.readouterr().err
    assert started(monkeypatch, path, "--threads", "2") == list(rivals.EARLY)
