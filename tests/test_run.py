"""run.py: its commands, and what it says when one fails."""

import ast
import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from safa_pack import host_setup, run
from safa_pack.tests import __main__ as main
from safa_pack.tests.fake_hosts import make_comfyui

pytestmark = pytest.mark.tools


def start(*arguments, **environ):
    """run.py as a person starts it, without a terminal; (exit code, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, str(run.ROOT / "run.py"), *arguments],
        env=dict(os.environ, **environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def refused(*arguments, **environ):
    """The one line of a refusal."""
    code, _, errors = start(*arguments, **environ)
    assert code != 0
    (line,) = errors.splitlines()
    return line


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A ComfyUI of the user's own, named by COMFYUI_PATH."""
    folder = make_comfyui(tmp_path / "own")
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    return folder


def test_an_old_python_gets_a_sentence_instead_of_a_syntax_error():
    with pytest.raises(run.Stop, match=r"Python 3\.10 or newer is needed, this is 3\.8\."):
        run.check_python((3, 8, 10))
    run.check_python((3, 10))
    for name in ("run.py", "host_setup.py"):
        source = (run.ROOT / name).read_text(encoding="utf-8")
        ast.parse(source, feature_version=(3, 6))
        imported = set(re.findall(r"^ *(?:import|from) (\w+)", source, re.M))
        assert imported <= {*sys.stdlib_module_names, "host_setup"}


def test_a_disk_that_fills_up_meanwhile_gets_a_sentence(monkeypatch, capsys):
    def full(tools):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr(run, "ready", full)
    assert run.report_failure(run.main, ["setup"]) == 1
    assert capsys.readouterr().err == "run.py: The disk is full: free some space and run this again.\n"


def test_a_refusal_is_one_line_without_a_traceback(tmp_path):
    assert refused("setup", COMFYUI_PATH=str(tmp_path)).startswith(f"run.py: COMFYUI_PATH is {tmp_path}, but")


def test_an_occupied_port_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = refused("serve", "--port", str(port))
    assert line.startswith(f"run.py: Port {port} at 127.0.0.1 is not free")
    assert "--port" in line.split(":", 2)[-1]


def test_serve_keeps_data_out_of_comfyui_and_passes_the_rest_on(own, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "DATA", tmp_path / "data")
    run.DATA.mkdir()
    (own / "models" / "checkpoints").mkdir(parents=True)
    options, rest = run.arguments(["serve", "--port", "8200", "--cpu", "--preview-method", "auto"])
    command = run.serve_command(host_setup.Host(own, Path("python"), False), options, rest)
    assert command[:4] == ["python", str(own / "main.py"), "--base-directory", str(run.DATA)]
    assert command[-3:] == ["--cpu", "--preview-method", "auto"]
    assert command[command.index("--port") + 1] == "8200"
    assert str(own / "models" / "checkpoints") in (run.DATA / "own_models.yaml").read_text()


def test_serve_shows_previews_unless_one_says_otherwise(own, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "DATA", tmp_path)
    host = host_setup.Host(own, Path("python"), False)
    for words, shown in ([], ["--preview-method", "auto"]), (["--preview-method=none"], ["--preview-method=none"]):
        command = run.serve_command(host, *run.arguments(["serve", "--cpu", *words]))
        assert [part for part in command if part.startswith("--preview") or part == "auto"] == shown


@pytest.fixture
def bare(tmp_path):
    """The environment of a Python that has nothing but its standard library, and no ComfyUI."""
    for name in ("torch", "numpy", "matplotlib", "PIL", "aiohttp", "soundfile", "comfy", "pytest"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not installed')\n")
    return {"PYTHONPATH": str(tmp_path), "SAFA_COMFYUI_PATH": str(tmp_path / "none"), "COMFYUI_PATH": ""}


PICTURES = ["help", "icon", "loop", "thumbnails"]
COMMANDS = ["setup", "serve", "demo", "bench", "test", "train", "eval", "pages", "draw"]


@pytest.mark.parametrize(
    "words", [*COMMANDS, "bench overhead", "draw help", "draw icon", "draw loop", "draw thumbnails"]
)
def test_help_answers_on_a_bare_clone(words, bare):
    code, told, errors = start(*words.split(), "--help", **bare)
    assert (code, errors) == (0, "") and told.startswith(f"usage: run.py {words}")
    assert "[safa]" not in told  # nothing was looked for or installed


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_run_alone_lists_what_each_command_does(words, bare):
    code, told, errors = start(*words, **bare)
    assert (code, errors) == (0, "")
    assert all(re.search(rf"^    {command} +\w+", told, re.M) for command in COMMANDS)


def test_help_of_bench_says_what_each_benchmark_measures(bare):
    _, told, _ = start("bench", "--help", **bare)
    known = {line.split()[0] for line in told.splitlines()[2:]}
    assert known == set(run.benchmarks()) and "startup" in known and "common" not in known
    assert all(len(line.split()) > 5 for line in told.splitlines()[2:])


def test_the_two_lists_of_requirements_are_equal():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")
    project = tomllib.loads((run.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert host_setup.requirement_lines(run.ROOT / "requirements.txt") == project["dependencies"]


def test_paths_that_eval_is_given_are_meant_from_where_it_was_called(tmp_path):
    """run.py starts the package in its own folder."""
    (tmp_path / "mine").mkdir()
    command = [sys.executable, "-m", "evaluation", "--protocol", "table2", "--model", "mine"]
    env = dict(os.environ, SAFA_CALLED_FROM=str(tmp_path))
    done = subprocess.run(command, cwd=run.ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert "mine without model_index.json" in done.stderr, done.stderr


def test_an_unknown_benchmark_is_refused_with_the_names_of_the_known_ones():
    line = refused("bench", "panorma")
    assert line.startswith("run.py: Expected a benchmark of ") and line.endswith(", got panorma.")
    assert "linear_map" in line and "panorama, " in line


def test_an_unknown_tier_is_refused_with_the_known_ones():
    command = [sys.executable, "-m", "tests", "--tier", "core,cores"]
    done = subprocess.run(command, cwd=run.ROOT, capture_output=True, text=True)
    expected = "run.py: Expected --tier to be of core, tools, host, server, browser, gpu, got core, cores.\n"
    assert (done.returncode, done.stderr) == (1, expected)


def options_for_pytest(*arguments):
    """The options that `run.py test` gives to pytest, by the tiers (last: the other arguments) it was given."""
    *tiers, rest = arguments
    return main.selection(tiers, rest) + main.workers(rest)


def test_two_cores_have_two_workers_unless_one_says_otherwise(monkeypatch):
    monkeypatch.setattr(main.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    two = ["-n", "2", "--dist", "worksteal"]
    assert options_for_pytest([]) == two
    assert options_for_pytest("host", "server", ["-x"]) == ["-m", "host or server", *two]
    assert options_for_pytest("core", ["-k", "ring"]) == ["-m", "core", "tests/safa_core", *two]
    assert options_for_pytest("core", [__file__ + "::test_a"]) == ["-m", "core", *two]
    assert options_for_pytest(["-n", "0"]) == options_for_pytest(["--pdb"]) == []
    monkeypatch.setattr(main.os, "sched_getaffinity", lambda process: {0})
    assert options_for_pytest([]) == []


@pytest.mark.parametrize(("command", "folder"), [("train", "training"), ("eval", "evaluation"), ("test", "tests")])
def test_a_folder_that_is_a_program_gets_the_rest_of_the_command_line(command, folder, own, monkeypatch):
    host = host_setup.Host(own, Path("python"), False)
    installed, started = [], []
    monkeypatch.setattr(run, "ready", lambda tools: installed.append(tools) or host)
    monkeypatch.setattr(run, "become", lambda *given: started.append(given) or 7)
    assert run.report_failure(run.main, [command, "--steps", "3", "-x", "name"]) == 7
    ((given, environment),) = started
    assert installed == [run.TEST_TOOLS if command == "test" else ()]
    assert given == ["python", "-m", folder, "--steps", "3", "-x", "name"]
    assert environment["SAFA_COMFYUI_PATH"] == str(own)


@pytest.mark.skipif(os.name == "nt", reason="there is no exec there")
def test_a_signal_reaches_the_program_itself():
    script = "import os, sys; from run import become; become([sys.executable, '-c', 'import os; print(os.getpid())'])"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=run.ROOT, stdout=subprocess.PIPE, text=True)
    assert int(process.communicate()[0]) == process.pid
