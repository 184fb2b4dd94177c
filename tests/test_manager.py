"""The pack installed by ComfyUI-Manager itself, from its command line, and the host started with the Manager."""

import contextlib
import functools
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sysconfig
import threading
import venv
from pathlib import Path

import pytest
import torch

from safa_pack import host_setup, run
from safa_pack.demo.server import ComfyServer
from safa_pack.tests.packed import git

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not importlib.util.find_spec("comfyui_manager"), reason="comfyui-manager is not installed"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def address(tmp_path):
    """Where this repository, as it is committed, can be cloned from: a web server on a loopback port."""
    bare = tmp_path / "git" / f"{run.PACK}.git"
    git(run.ROOT, "clone", "--quiet", "--bare", str(run.ROOT), str(bare))
    subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)
    handler = functools.partial(Quiet, directory=str(bare.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{bare.name}"
        server.shutdown()


@pytest.fixture
def fresh(comfyui, tmp_path):
    """(a copy of the host without other packs, a Python that borrows our packages and may be changed)."""
    copy = tmp_path / "ComfyUI"
    left = {"models", "user", "output", "input", "temp", "custom_nodes", ".git", "venv", ".venv"}
    shutil.copytree(comfyui, copy, ignore=lambda folder, _: left if Path(folder) == comfyui else {"__pycache__"})
    (copy / "custom_nodes").mkdir()
    settings = copy / "user" / "__manager" / "config.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nnetwork_mode = offline\n")
    venv.create(tmp_path / "venv", symlinks=os.name != "nt", with_pip=True)
    python = host_setup.venv_python(tmp_path / "venv")
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return copy, python


class ManagedServer(ComfyServer):
    """A server run by another Python, with all packs and the Manager."""

    def __init__(self, comfyui, python):
        super().__init__(comfyui, comfyui)
        self.python = python

    def _command(self):
        alone = ("--disable-all-custom-nodes",)
        command = [part for part in super()._command()[1:] if part not in alone]
        device = [] if torch.cuda.is_available() else ["--cpu"]
        return [str(self.python), *command, "--enable-manager", "--verbose", "DEBUG", *device]


def test_the_manager_installs_the_pack_and_both_load_without_a_warning(address, fresh):
    comfyui, python = fresh
    env = dict(os.environ, COMFYUI_PATH=str(comfyui), PIP_NO_INDEX="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    command = [python, "-m", "cm_cli", "install", address]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and f"[INSTALLED] {address}" in said, said
    assert "ERROR" not in said and "Traceback" not in said, said
    pack = comfyui / "custom_nodes" / run.PACK
    assert git(pack, "rev-parse", "HEAD") == git(run.ROOT, "rev-parse", "HEAD")
    asked_for = host_setup.requirement_lines(pack / "requirements.txt")
    assert [line for line in asked_for if f"'{line}'" in said] == asked_for, "each is handed to pip"

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ManagedServer(comfyui, python))
        known, installed = server.object_info(), server.get("/v2/customnode/installed")
        log = server.log()
    nodes = json.loads((pack / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert installed[run.PACK]["enabled"]
    assert {node for node in known if known[node]["python_module"] == f"custom_nodes.{run.PACK}"} == set(nodes)
    assert re.search(rf"seconds: {re.escape(str(pack))}$", log, re.MULTILINE), "no (IMPORT FAILED) before it"
    loading = log.split(f"Trying to load custom node {pack}", 1)[1].split("Import times for custom nodes", 1)[0]
    assert not re.findall(r".*(?:WARN|Warning|ERROR|Traceback).*", loading)
    assert not [line for line in log.splitlines() if "arning" in line and run.PACK in line]
