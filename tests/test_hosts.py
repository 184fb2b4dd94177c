"""A ComfyUI that is too old gets one sentence instead of a traceback, and starts."""

import asyncio
import importlib
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from safa_pack.tests.server import ComfyServer

ROOT = Path(__file__).resolve().parent.parent
OLDEST = re.search(r'^requires-comfyui = ">=(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)[1]
SENTENCE = "ComfyUI-SaFa needs ComfyUI {} or newer, this is {}: update ComfyUI and restart it to get the pack's nodes."
# imports the pack by its path, as the host does, and tells what the host would find in it
IMPORT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("pack", sys.argv[1])
spec.loader.exec_module(pack := importlib.util.module_from_spec(spec))
print({name: getattr(pack, name) for name in ("NODE_CLASS_MAPPINGS", "comfy_entrypoint", "WEB_DIRECTORY") if hasattr(pack, name)})
"""  # noqa: E501


def imported(beside):
    """(what a host finds, what is printed) when the pack is imported with the modules in the folder `beside`."""
    command = [sys.executable, "-c", IMPORT, str(ROOT / "__init__.py")]
    done = subprocess.run(command, cwd=beside, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


@pytest.fixture
def old_host(tmp_path):
    """A host of before comfy_api, by its version."""

    def make(version):
        (tmp_path / "comfy").mkdir()
        if version:
            (tmp_path / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
        return tmp_path

    return make


@pytest.mark.tools
@pytest.mark.parametrize("version", ["0.3.11", "0.3.76", "0.9.2", "0.9.2-dev"])
def test_an_old_host_without_the_node_api_gets_one_sentence(old_host, version):
    assert imported(old_host(version)) == (
        "{'NODE_CLASS_MAPPINGS': {}}",
        "WARNING:root:" + SENTENCE.format(OLDEST, version),
    )


@pytest.mark.tools
def test_a_host_of_before_versions_gets_one_sentence(old_host):
    assert imported(old_host(None))[1] == "WARNING:root:" + SENTENCE.format(OLDEST, "0.3.10 or older")


@pytest.mark.tools
def test_scripts_without_a_host_may_import_the_pack(tmp_path):
    assert imported(tmp_path) == ("{}", "")


@pytest.mark.host
def test_the_hosts_own_loader_takes_the_refusal_without_a_traceback(caplog, monkeypatch):
    import nodes as host

    monkeypatch.setattr(importlib.import_module("comfyui_version"), "__version__", "0.3.76")
    before = dict(host.NODE_CLASS_MAPPINGS)
    with caplog.at_level(logging.INFO):
        asyncio.run(host.load_custom_node(str(ROOT)))
    assert [record.getMessage() for record in caplog.records] == [SENTENCE.format(OLDEST, "0.3.76")]
    assert before == host.NODE_CLASS_MAPPINGS


@pytest.mark.server
def test_the_server_of_an_old_host_starts_without_the_nodes_and_says_why(comfyui, tmp_path):
    """The host of the tests, told to be older than it is."""
    old = tmp_path / "ComfyUI"
    old.mkdir()
    for entry in comfyui.iterdir():
        if entry.suffix == ".py":
            shutil.copy(entry, old)  # Python looks for modules beside the real file
        elif entry.name != "custom_nodes":
            (old / entry.name).symlink_to(entry)
    (old / "comfyui_version.py").write_text('__version__ = "0.3.76"\n')
    with ComfyServer(old, tmp_path / "base") as server:
        known, log = server.object_info(), server.log()
    assert "KSampler" in known and not [node for node in known if node.startswith("SaFa")]
    assert log.count(SENTENCE.format(OLDEST, "0.3.76")) == 1
    assert "Traceback" not in log
