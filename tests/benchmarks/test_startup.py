"""What the pack adds to ComfyUI's start: its own modules, and no library."""

import importlib
import sys

import pytest

from safa_pack.benchmarks import common, startup

pytestmark = pytest.mark.host
BUSY = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\n"


def test_a_start_of_comfyui_waits_for_no_library_of_the_packs_requirements():
    modules = common.run_apart("startup", "--one")["modules"]
    assert ".nodes.joint.sampler" in modules
    libraries = {startup.library(name) for name in modules if not name.startswith(".")}
    foreign = libraries - sys.stdlib_module_names
    assert not foreign, "import these in the functions that use them: they are loaded at every start"


def test_seconds_are_those_of_a_module_without_what_it_imports(tmp_path, monkeypatch):
    (tmp_path / "bigone").mkdir()
    (tmp_path / "bigone" / "__init__.py").write_text("import bigone.part\n" + BUSY.format(0.02))
    (tmp_path / "bigone" / "part.py").write_text(BUSY.format(0.2))
    monkeypatch.syspath_prepend(tmp_path)
    clock = startup.ImportClock()
    with clock.running():
        importlib.import_module("bigone")
    assert clock.seconds["bigone.part"] >= 0.2 > clock.seconds["bigone"] >= 0.02


def test_the_report_names_libraries_whole_and_the_most_expensive_first(monkeypatch, tmp_path, capsys):
    modules = {".": 0.01, ".nodes": 0.02, "bigone": 0.1, "bigone.part": 0.3}
    rounds = iter([9.0, 0.5, 0.1, 0.9])  # the first one compiles
    monkeypatch.setattr(startup, "run_apart", lambda *_: {"seconds": next(rounds), "modules": modules})
    startup.main(["--rounds", "3", "--top", "2"])
    told, _, _, _, *rows = capsys.readouterr().out.splitlines()
    assert told.startswith("The pack adds 0.50 s to a start (0.10 to 0.90), with 4 modules")
    assert rows == ["| bigone (2 modules) | 0.400 |", "| .nodes | 0.020 |"]


def test_a_pack_that_cannot_be_loaded_is_no_figure(monkeypatch):
    monkeypatch.setattr(startup, "run_apart", lambda *_: None)
    with pytest.raises(SystemExit, match="A round failed"):
        startup.main([])
