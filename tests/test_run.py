"""run.py: which host is taken, what is refused and in which words."""

import ast
import errno
import io
import os
import re
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from safa_pack import run

pytestmark = pytest.mark.core


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


def make_comfyui(folder):
    """The files by which a ComfyUI folder is recognised."""
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text("")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{run.COMFYUI_VERSION}"\n')
    (folder / "requirements.txt").write_text("torch\n")
    return folder


def make_python(path):
    path.parent.mkdir(parents=True)
    path.write_text("")
    return path


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A ComfyUI of the user's own, named by COMFYUI_PATH."""
    folder = make_comfyui(tmp_path / "own")
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    return folder


@pytest.fixture
def managed(tmp_path, monkeypatch):
    """A finished setup in another place: .venv, its stamp and ComfyUI."""
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(run, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(run, "HOST", make_comfyui(tmp_path / ".host" / "ComfyUI"))
    monkeypatch.setattr(run, "DATA", tmp_path / ".host" / "data")
    make_python(run.venv_python(run.VENV))
    (run.VENV / "safa-setup.txt").write_text(run.fingerprint())


def nothing_may_run(*command, **options):
    raise AssertionError(f"Expected no other program, got {command}.")


# What setup needs


def test_an_old_python_gets_a_sentence_instead_of_a_syntax_error():
    with pytest.raises(run.Stop, match=r"Python 3\.10 or newer is needed, this is 3\.8\."):
        run.check_python((3, 8, 10))
    run.check_python((3, 10))
    source = (run.ROOT / "run.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    imported = {name for line in re.findall(r"^(?:import|from) (\w+)", source, re.M) for name in line.split()}
    assert imported <= set(sys.stdlib_module_names)


def test_a_full_disk_is_noticed_before_the_download():
    with pytest.raises(run.Stop, match=r"about 8 GB of disk space, and 2\.5 GB are free"):
        run.check_space(2.5 * run.GIB, 8 * run.GIB)
    run.check_space(8 * run.GIB, 8 * run.GIB)


def test_a_disk_that_fills_up_meanwhile_gets_a_sentence(monkeypatch, capsys):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr(run, "ready", full)
    assert run.told(run.main, ["setup"]) == 1
    assert capsys.readouterr().err == "run.py: The disk is full: free some space and run this again.\n"


@pytest.mark.parametrize(
    "printed, sentence",
    [
        ("ERROR: No matching distribution: uv (from versions: none)", "The package index cannot be reached"),
        ("Caused by: failed to lookup address: dns error", "The package index cannot be reached"),
        ("failed to write: No space left on device (os error 28)", "The disk is full"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "A download is damaged"),
        ("torch has no wheels with a matching Python ABI tag", "There is no torch 2.11 for this Python"),
        ("The virtual environment was not created because ensurepip is not available", "cannot make virtual env"),
        ("something new", "failed with exit code 3"),
    ],
)
def test_the_reason_of_a_failed_installation_is_one_sentence(printed, sentence, capsys):
    with pytest.raises(run.Stop, match=sentence):
        run.call(sys.executable, "-c", f"import sys; print({printed!r}); sys.exit(3)")
    assert printed in capsys.readouterr().out


def test_uv_uses_the_indexes_and_certificates_that_pip_is_told_to():
    listed = (
        "global.index-url='a:one'\n"
        "install.extra-index-url='\\na:two\\na:three'\n"
        ":env:.index-url='a:four'\n"
        "global.find-links='/wheels /more'\n"
        "global.cert='/ca.pem'\n"
        "download.index-url='a:five'\n"
        "global.timeout='60'\n"
    )
    assert run.uv_environment(listed, {"HOME": "/home", "SSL_CERT_FILE": "/mine.pem"}) == {
        "HOME": "/home",
        "SSL_CERT_FILE": "/mine.pem",
        "UV_DEFAULT_INDEX": "a:four",
        "UV_INDEX": "a:two a:three",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
    }


# The download


def archive_of(path, *names):
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"text"))
    return path


def accept(archive, monkeypatch):
    monkeypatch.setattr(run, "COMFYUI_SHA256", run.hashlib.sha256(archive.read_bytes()).hexdigest())


def test_a_damaged_download_is_refused_and_nothing_is_unpacked(tmp_path, monkeypatch):
    archive = archive_of(tmp_path / "host.tar.gz", "host-1/vendor/ComfyUI/main.py")
    accept(archive, monkeypatch)
    archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(run.Stop, match=r"host\.tar\.gz is damaged"):
        run.unpack_comfyui(archive, tmp_path / "ComfyUI")
    assert list(tmp_path.iterdir()) == [archive]


def test_only_comfyui_is_taken_from_the_archive(tmp_path, monkeypatch):
    names = ["host-1/setup.py", "host-1/vendor/ComfyUI/main.py", "host-1/vendor/ComfyUI/comfy/ops.py"]
    archive = archive_of(tmp_path / "host.tar.gz", *names)
    accept(archive, monkeypatch)
    target = tmp_path / "ComfyUI"
    run.unpack_comfyui(archive, target)
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == {"main.py", "comfy/ops.py"}


def test_an_archive_cannot_write_outside_of_its_folder(tmp_path, monkeypatch):
    archive = archive_of(tmp_path / "host.tar.gz", "host-1/vendor/ComfyUI/../../outside.py")
    accept(archive, monkeypatch)
    with pytest.raises(run.Stop, match="outside of its folder"):
        run.unpack_comfyui(archive, tmp_path / "place" / "ComfyUI")
    assert list(tmp_path.iterdir()) == [archive]


def test_an_interrupted_download_leaves_no_half_comfyui(managed, monkeypatch):
    (run.HOST / "comfyui_version.py").write_text('__version__ = "0.1.0"\n')

    def interrupted(*command, env=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.fetch_comfyui(sys.executable)
    assert [path.name for path in run.HOST.parent.iterdir()] == ["ComfyUI"]
    assert run.host_version(run.HOST) == "0.1.0"


# The second run


def test_a_second_setup_starts_no_other_program(managed, monkeypatch, capsys):
    monkeypatch.setattr(run.subprocess, "Popen", nothing_may_run)
    for _ in range(2):
        assert run.told(run.main, ["setup"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"[safa] ready: ComfyUI {run.COMFYUI_VERSION}")


@pytest.mark.parametrize("name", ["TORCH", "TEST_TOOLS"])
def test_a_changed_requirement_is_installed(name, managed, monkeypatch):
    monkeypatch.setattr(run, name, ["changed==1.0"])
    monkeypatch.setattr(run, "check_space", lambda free, needed: None)
    monkeypatch.setattr(run, "succeeds", lambda *command: True)
    installed = []
    monkeypatch.setattr(run, "install", installed.append)
    python = run.venv_python(run.VENV)
    run.prepare(python)
    run.prepare(python)
    assert installed == [python]


@pytest.mark.parametrize("whole", [True, False])
def test_sound_can_be_saved_on_a_machine_without_libsndfile(whole, managed, monkeypatch):
    """uv may choose soundfile's wheel without the library where pip's choice has it."""
    called = []
    monkeypatch.setattr(run, "call", lambda *command, env=None: called.append([str(part) for part in command]))
    monkeypatch.setattr(run, "succeeds", lambda *command: whole or command[-1] != "import soundfile")
    run.install(sys.executable)
    assert called[0][1:4] == ["-m", "uv", "pip"]
    mended = [sys.executable, "-m", "pip", "install", "--force-reinstall", "--no-deps", "soundfile"]
    assert called[1:] == ([] if whole else [mended])


def test_a_venv_whose_python_was_removed_is_made_anew(managed, monkeypatch):
    python = run.venv_python(run.VENV)
    python.unlink()
    python.symlink_to(run.VENV / "removed")
    called = []
    monkeypatch.setattr(run, "check_space", lambda free, needed: None)
    monkeypatch.setattr(run, "call", lambda *command: called.append(command))
    monkeypatch.setattr(run, "install", lambda python: None)
    run.prepare(python)
    assert called == [(sys.executable, "-m", "venv", "--clear", run.VENV)]


# The host


def test_a_comfyui_path_without_comfyui_is_refused(tmp_path):
    assert refused("setup", COMFYUI_PATH=str(tmp_path)).startswith(f"run.py: COMFYUI_PATH is {tmp_path}, but")


def test_comfyui_path_wins(own):
    assert run.host_folder() == own


def test_the_comfyui_around_the_repository_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    around = make_comfyui(tmp_path / "comfy-of-the-user")
    monkeypatch.setattr(run, "ROOT", around / "custom_nodes" / "any-name")
    assert run.host_folder() == around
    (around / "main.py").unlink()
    assert run.host_folder() == run.HOST


@pytest.mark.parametrize("place", [".venv", "venv"])
def test_an_own_comfyui_is_run_by_its_own_interpreter(place, own):
    python = make_python(run.venv_python(own / place))
    assert run.find_host() == run.Host(own, python, managed=False)


def test_a_portable_comfyui_is_run_by_the_python_beside_it(own):
    python = make_python(own.parent / "python_embeded" / "python.exe")
    assert run.own_python(own) == python


def test_an_own_comfyui_without_an_environment_is_run_by_the_python_with_torch(own, monkeypatch):
    assert run.own_python(own) == Path(sys.executable)
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(run.Stop, match="start run.py with the Python that starts this ComfyUI"):
        run.own_python(own)


def test_an_own_comfyui_gets_no_package_unasked(own, monkeypatch):
    host = run.Host(own, Path(sys.executable), managed=False)
    run.complete(host, ["numpy>=1.0", "pillow", "typing-extensions==0.1"])
    monkeypatch.setattr(run, "call", nothing_may_run)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(run.Stop, match=r"lacks no-such-package>=1, .*-m pip install no-such-package>=1$"):
        run.complete(host, ["numpy", "no-such-package>=1"])


# The link


def test_the_pack_is_linked_and_not_copied(tmp_path):
    run.link_pack(tmp_path / "custom_nodes")
    run.link_pack(tmp_path / "custom_nodes")
    link = tmp_path / "custom_nodes" / "ComfyUI-SaFa"
    assert link.is_symlink() or os.name == "nt"
    assert link.samefile(run.ROOT)


def test_another_pack_of_that_name_is_refused_and_kept(own):
    other = own / "custom_nodes" / "ComfyUI-SaFa" / "notes.txt"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    with pytest.raises(run.Stop, match="is there already and is not this repository"):
        run.link_pack(own / "custom_nodes")
    assert other.read_text() == "mine"


def test_a_repository_inside_custom_nodes_is_not_linked_a_second_time(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ROOT", tmp_path / "any-name")
    run.link_pack(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_repository_that_moved_is_linked_again(tmp_path):
    link = tmp_path / "ComfyUI-SaFa"
    link.symlink_to(tmp_path / "where-it-was")
    run.link_pack(tmp_path)
    assert link.samefile(run.ROOT)


# Commands


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
    command = run.serve_command(run.Host(own, Path("python"), False), options, rest)
    assert command[:4] == ["python", str(own / "main.py"), "--base-directory", str(run.DATA)]
    assert command[-3:] == ["--cpu", "--preview-method", "auto"]
    assert command[command.index("--port") + 1] == "8200"
    assert str(own / "models" / "checkpoints") in (run.DATA / "own_models.yaml").read_text()


def test_the_two_lists_of_requirements_are_equal():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")
    project = tomllib.loads((run.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert run.requirement_lines(run.ROOT / "requirements.txt") == project["dependencies"]


def test_paths_that_eval_is_given_are_meant_from_where_it_was_called(tmp_path):
    """run.py starts the package in its own folder."""
    (tmp_path / "mine").mkdir()
    command = [sys.executable, "-m", "evaluation", "--protocol", "table2", "--model", "mine"]
    env = dict(os.environ, SAFA_CALLED_FROM=str(tmp_path))
    done = subprocess.run(command, cwd=run.ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert "mine without model_index.json" in done.stderr, done.stderr


def test_an_unknown_benchmark_is_refused_with_the_names_of_the_known_ones():
    line = refused("bench", "panorma")
    assert line.startswith("run.py: Expected a benchmark of ") and line.endswith(", got panorma.")
    assert "linear_map" in line and "panorama, " in line


def test_an_unknown_tier_is_refused_with_the_known_ones():
    command = [sys.executable, "-m", "tests", "--tier", "core,cores"]
    done = subprocess.run(command, cwd=run.ROOT, capture_output=True, text=True)
    said = "run.py: Expected --tier to be of core, host, server, browser, gpu, got core, cores.\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize(("command", "folder"), [("train", "training"), ("eval", "evaluation"), ("test", "tests")])
def test_a_folder_that_is_a_program_gets_the_rest_of_the_command_line(command, folder, own, monkeypatch):
    host, became = run.Host(own, Path("python"), False), []
    monkeypatch.setattr(run, "ready", lambda tools: host)
    monkeypatch.setattr(run, "become", lambda *given: became.append(given) or 7)
    assert run.told(run.main, [command, "--steps", "3", "--help", "-x", "name"]) == 7
    ((given, environment),) = became
    assert given == ["python", "-m", folder, "--steps", "3", "--help", "-x", "name"]
    assert environment["SAFA_COMFYUI_PATH"] == str(own)


@pytest.mark.skipif(os.name == "nt", reason="there is no exec there")
def test_a_signal_reaches_the_program_itself():
    script = "import os, sys; from run import become; become([sys.executable, '-c', 'import os; print(os.getpid())'])"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=run.ROOT, stdout=subprocess.PIPE, text=True)
    assert int(process.communicate()[0]) == process.pid
