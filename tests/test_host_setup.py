"""host_setup.py: which host is taken, what is installed, what is refused and in which words."""

import io
import os
import re
import sys
import tarfile
from pathlib import Path

import pytest

from safa_pack import host_setup
from safa_pack.tests.fake_hosts import make_comfyui, make_python

pytestmark = pytest.mark.tools


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
    monkeypatch.setattr(host_setup, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(host_setup, "HOST", make_comfyui(tmp_path / ".host" / "ComfyUI"))
    monkeypatch.setattr(host_setup, "DATA", tmp_path / ".host" / "data")
    make_python(host_setup.venv_python(host_setup.VENV))
    packages = [*host_setup.TORCH, *host_setup.OPTIONAL]
    (host_setup.VENV / "safa-setup.txt").write_text(host_setup.fingerprint(packages))


def nothing_may_run(*command, **options):
    raise AssertionError(f"Expected no other program, got {command}.")


# What setup needs


def test_a_full_disk_is_noticed_before_the_download():
    with pytest.raises(host_setup.Stop, match=r"about 8 GB of disk space, and 2\.5 GB are free"):
        host_setup.check_space(2.5 * host_setup.GIB, 8 * host_setup.GIB)
    host_setup.check_space(8 * host_setup.GIB, 8 * host_setup.GIB)


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
    with pytest.raises(host_setup.Stop, match=sentence):
        host_setup.call(sys.executable, "-c", f"import sys; print({printed!r}); sys.exit(3)")
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
    assert host_setup.uv_environment(listed, {"HOME": "/home", "SSL_CERT_FILE": "/mine.pem"}) == {
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
    monkeypatch.setattr(host_setup, "COMFYUI_SHA256", host_setup.hashlib.sha256(archive.read_bytes()).hexdigest())


def test_a_damaged_download_is_refused_and_nothing_is_unpacked(tmp_path, monkeypatch):
    archive = archive_of(tmp_path / "host.tar.gz", "host-1/vendor/ComfyUI/main.py")
    accept(archive, monkeypatch)
    archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(host_setup.Stop, match=r"host\.tar\.gz is damaged"):
        host_setup.unpack_comfyui(archive, tmp_path / "ComfyUI")
    assert list(tmp_path.iterdir()) == [archive]


def test_only_comfyui_is_taken_from_the_archive(tmp_path, monkeypatch):
    names = ["host-1/setup.py", "host-1/vendor/ComfyUI/main.py", "host-1/vendor/ComfyUI/comfy/ops.py"]
    archive = archive_of(tmp_path / "host.tar.gz", *names)
    accept(archive, monkeypatch)
    target = tmp_path / "ComfyUI"
    host_setup.unpack_comfyui(archive, target)
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == {"main.py", "comfy/ops.py"}


def test_an_archive_cannot_write_outside_of_its_folder(tmp_path, monkeypatch):
    archive = archive_of(tmp_path / "host.tar.gz", "host-1/vendor/ComfyUI/../../outside.py")
    accept(archive, monkeypatch)
    with pytest.raises(host_setup.Stop, match="outside of its folder"):
        host_setup.unpack_comfyui(archive, tmp_path / "place" / "ComfyUI")
    assert list(tmp_path.iterdir()) == [archive]


def test_an_interrupted_download_leaves_no_half_comfyui(managed, monkeypatch):
    (host_setup.HOST / "comfyui_version.py").write_text('__version__ = "0.1.0"\n')

    def interrupted(*command, env=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(host_setup, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        host_setup.fetch_comfyui(sys.executable)
    assert [path.name for path in host_setup.HOST.parent.iterdir()] == ["ComfyUI"]
    assert host_setup.host_version(host_setup.HOST) == "0.1.0"


# The second run


def test_a_second_setup_starts_no_other_program(managed, monkeypatch, capsys):
    monkeypatch.setattr(host_setup.subprocess, "Popen", nothing_may_run)
    for _ in range(2):
        host_setup.ready()
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"[safa] ready: ComfyUI {host_setup.COMFYUI_VERSION}")


@pytest.fixture
def installed(managed, monkeypatch):
    """The lists of packages that `prepare` has installed since."""
    monkeypatch.setattr(host_setup, "check_space", lambda free, needed: None)
    monkeypatch.setattr(host_setup, "succeeds", lambda *command: True)
    lists = []
    monkeypatch.setattr(host_setup, "install", lambda python, packages: lists.append(packages))
    return lists


def test_a_changed_requirement_is_installed_once(installed, monkeypatch):
    monkeypatch.setattr(host_setup, "TORCH", ["changed==1.0"])
    for _ in range(2):
        host_setup.prepare(host_setup.venv_python(host_setup.VENV), ())
    assert installed == [["changed==1.0", *host_setup.OPTIONAL]]


def test_tools_are_installed_once_and_for_the_command_alone_that_needs_them(installed):
    python = host_setup.venv_python(host_setup.VENV)
    packages = [*host_setup.TORCH, *host_setup.OPTIONAL]
    host_setup.prepare(python, ())
    assert installed == []
    for tools in (["tool==1.0"], (), ["tool==1.0"], ["tool==2.0"], ()):
        host_setup.prepare(python, tools)
    assert installed == [[*packages, "tool==1.0"], [*packages, "tool==2.0"]]


def test_another_torch_brings_the_tools_up_to_date_too(installed, monkeypatch):
    python = host_setup.venv_python(host_setup.VENV)
    host_setup.prepare(python, ["tool==1.0"])
    monkeypatch.setattr(host_setup, "TORCH", ["changed==1.0"])
    host_setup.prepare(python, ())
    host_setup.prepare(python, ["tool==1.0"])
    assert installed[1:] == [["changed==1.0", *host_setup.OPTIONAL, *tools] for tools in ([], ["tool==1.0"])]


@pytest.mark.parametrize("whole", [True, False])
def test_sound_can_be_saved_on_a_machine_without_libsndfile(whole, managed, monkeypatch):
    """uv may choose soundfile's wheel without the library where pip's choice has it."""
    called = []
    monkeypatch.setattr(host_setup, "call", lambda *command, env=None: called.append([str(part) for part in command]))
    monkeypatch.setattr(host_setup, "succeeds", lambda *command: whole or command[-1] != "import soundfile")
    host_setup.install(sys.executable, ["torch"])
    assert called[0][1:4] == ["-m", "uv", "pip"]
    mended = [sys.executable, "-m", "pip", "install", "--force-reinstall", "--no-deps", "soundfile"]
    assert called[1:] == ([] if whole else [mended])


def test_a_venv_whose_python_was_removed_is_made_anew(managed, monkeypatch):
    python = host_setup.venv_python(host_setup.VENV)
    python.unlink()
    python.symlink_to(host_setup.VENV / "removed")
    called = []
    monkeypatch.setattr(host_setup, "check_space", lambda free, needed: None)
    monkeypatch.setattr(host_setup, "call", lambda *command: called.append(command))
    monkeypatch.setattr(host_setup, "install", lambda python, packages: None)
    host_setup.prepare(python, ())
    assert called == [(sys.executable, "-m", "venv", "--clear", host_setup.VENV)]


# The host


def test_a_comfyui_path_without_comfyui_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(host_setup.Stop, match=f"^COMFYUI_PATH is {re.escape(str(tmp_path))}, but"):
        host_setup.host_folder()


def test_comfyui_path_wins(own):
    assert host_setup.host_folder() == own


def test_the_comfyui_around_the_repository_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    around = make_comfyui(tmp_path / "comfy-of-the-user")
    monkeypatch.setattr(host_setup, "ROOT", around / "custom_nodes" / "any-name")
    assert host_setup.host_folder() == around
    (around / "main.py").unlink()
    assert host_setup.host_folder() == host_setup.HOST


@pytest.mark.parametrize("place", [".venv", "venv"])
def test_an_own_comfyui_is_run_by_its_own_interpreter(place, own):
    python = make_python(host_setup.venv_python(own / place))
    assert host_setup.find_host() == host_setup.Host(own, python, managed=False)


def test_a_portable_comfyui_is_run_by_the_python_beside_it(own):
    python = make_python(own.parent / "python_embeded" / "python.exe")
    assert host_setup.own_python(own) == python


def test_an_own_comfyui_without_an_environment_is_run_by_the_python_with_torch(own, monkeypatch):
    assert host_setup.own_python(own) == Path(sys.executable)
    monkeypatch.setattr(host_setup.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(host_setup.Stop, match="start run.py with the Python that starts this ComfyUI"):
        host_setup.own_python(own)


def test_an_own_comfyui_gets_no_package_unasked(own, monkeypatch):
    host = host_setup.Host(own, Path(sys.executable), managed=False)
    host_setup.complete(host, ["numpy>=1.0", "pillow", "typing-extensions==0.1"])
    monkeypatch.setattr(host_setup, "call", nothing_may_run)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(host_setup.Stop, match=r"lacks no-such-package>=1, .*-m pip install no-such-package>=1$"):
        host_setup.complete(host, ["numpy", "no-such-package>=1"])


# The folders of models


def test_the_folders_that_the_workflows_notes_name_are_there_after_setup(own, tmp_path, monkeypatch):
    make_python(host_setup.venv_python(own / ".venv"))
    monkeypatch.setattr(host_setup, "DATA", tmp_path / "data")
    monkeypatch.setattr(host_setup, "complete", lambda *_: None)
    host_setup.ready()
    made = {place.name for place in (tmp_path / "data" / "models").iterdir()}
    named = set()
    for file in (Path(__file__).parent.parent / "workflows").glob("*.json"):
        named.update(re.findall(r"\bmodels/(\w+)", file.read_text(encoding="utf-8")))
    assert named and named <= made


# The link


def test_the_pack_is_linked_and_not_copied(tmp_path):
    host_setup.link_pack(tmp_path / "custom_nodes")
    host_setup.link_pack(tmp_path / "custom_nodes")
    link = tmp_path / "custom_nodes" / "ComfyUI-SaFa"
    assert link.is_symlink() or os.name == "nt"
    assert link.samefile(host_setup.ROOT)


def test_another_pack_of_that_name_is_refused_and_kept(own):
    other = own / "custom_nodes" / "ComfyUI-SaFa" / "notes.txt"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    with pytest.raises(host_setup.Stop, match="is there already and is not this repository"):
        host_setup.link_pack(own / "custom_nodes")
    assert other.read_text() == "mine"


def test_a_repository_inside_custom_nodes_is_not_linked_a_second_time(tmp_path, monkeypatch):
    monkeypatch.setattr(host_setup, "ROOT", tmp_path / "any-name")
    host_setup.link_pack(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_repository_that_moved_is_linked_again(tmp_path):
    link = tmp_path / "ComfyUI-SaFa"
    link.symlink_to(tmp_path / "where-it-was")
    host_setup.link_pack(tmp_path)
    assert link.samefile(host_setup.ROOT)
