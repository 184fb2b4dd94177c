"""The pack as ComfyUI-Manager installs it: cloned into custom_nodes, with requirements.txt."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from safa_pack import host_setup, run
from safa_pack.demo.server import ComfyServer
from safa_pack.tests.packed import git, left_out

ROOT = Path(__file__).resolve().parent.parent
HOSTS_OWN = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "node_helpers", "nodes", "server"}
ASKED_FOR = {"torchmetrics"}  # for LPIPS; without it the node says how to get it
DISTRIBUTIONS = {"PIL": "pillow"}  # what is called otherwise than its module


def install(way, folder):
    """This repository, as it is committed, in `folder`: a clone, or what the registry's archive holds of it."""
    git(ROOT, "clone", "--quiet", str(ROOT), str(folder))
    if way == "archive":
        for file in left_out(folder):
            (folder / file).unlink()
        shutil.rmtree(folder / ".git")


def third_party(folder):
    """The modules besides Python's own that the files in `folder` import, also inside of functions."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names


def listed(requirements):
    return {re.split(r"[^\w-]", line)[0].lower() for line in host_setup.requirement_lines(requirements)}


@pytest.mark.tools
def test_a_fresh_host_lacks_nothing_that_the_nodes_import(comfyui):
    modules = (third_party(ROOT / "nodes") | third_party(ROOT / "safa_core")) - HOSTS_OWN - ASKED_FOR
    needed = {DISTRIBUTIONS.get(module, module) for module in modules}
    assert "torch" in needed
    assert not needed - listed(ROOT / "requirements.txt") - listed(comfyui / "requirements.txt")


@pytest.mark.tools
def test_nothing_runs_at_install_time_and_no_requirement_is_an_address():
    assert not (ROOT / "install.py").exists() and not (ROOT / "prestartup_script.py").exists()
    for line in host_setup.requirement_lines(ROOT / "requirements.txt"):
        assert re.fullmatch(r"[a-z0-9-]+(>=[\d.]+)?", line), line


@pytest.mark.tools
def test_pip_finds_the_requirements_installed_beside_the_tests():
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "-r", str(ROOT / "requirements.txt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if "No module named pip" in done.stderr:
        pytest.skip("this Python has no pip")
    assert done.returncode == 0 and "Would install" not in done.stdout, done.stdout + done.stderr


@pytest.mark.server
@pytest.mark.parametrize("way", ["clone", "archive"])
def test_it_loads_all_nodes_without_a_warning(comfyui, tmp_path, way):
    pack = tmp_path / "custom_nodes" / run.PACK
    install(way, pack)
    cpu = [] if torch.cuda.is_available() else ["--cpu"]
    options = ["--whitelist-custom-nodes", run.PACK, "--verbose", "DEBUG", *cpu]
    with ComfyServer(comfyui, tmp_path, *options) as server:
        known, log = server.object_info(), server.log()
    nodes = json.loads((pack / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert {node for node in known if known[node]["python_module"] == f"custom_nodes.{run.PACK}"} == set(nodes)
    loading = log.split(f"Trying to load custom node {pack}", 1)[1].split("Import times for custom nodes", 1)
    assert not re.findall(r".*(?:WARN|Warning|ERROR|Traceback).*", loading[0])
    assert re.search(rf"seconds: {re.escape(str(pack))}$", loading[1], re.MULTILINE), "no (IMPORT FAILED) before it"
    assert not [line for line in log.splitlines() if "Warning" in line and str(pack) in line]
