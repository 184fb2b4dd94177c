"""Makes the repository importable as `safa_pack` and puts the host in reach.

The folder of a pack has any name and the host owns the top-level name `nodes`, so tests import everything through
the alias: `safa_pack.safa_core`, `safa_pack.nodes`, `safa_pack.run`, and shared test code, such as
`safa_pack.tests.server`, too (tests is a namespace package: it must have no `__init__.py`).
The pack's own `__init__.py` is not executed here; the real server does that.

Tests run in one process, or side by side in several (`-n 2`), one torch thread each. What takes long to import is
imported where it is needed: the process that only hands tests out needs none of it, and the core tier torch alone.
"""

import gc
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import bootstrap  # noqa: E402

TIERS = ("browser", "server", "gpu", "host", "tools", "core")  # in the order in which they are run

bootstrap.pack()

from safa_pack import run  # noqa: E402
from safa_pack.tests import chromium  # noqa: E402

COMFYUI = bootstrap.host_folder()
ARTEFACTS = Path(os.environ.get("SAFA_ARTEFACTS") or run.DATA / "screenshots")


def pytest_configure(config):
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, here and by the servers
    if not config.getoption("numprocesses", None):  # else this process only hands tests out
        if (COMFYUI / "comfy").is_dir():
            bootstrap.host()
        else:  # enough for the core tier
            bootstrap.leave_path()


def tier(item):
    """The one marker that says what a test needs."""
    tiers = [mark.name for mark in item.iter_markers() if mark.name in TIERS]
    if len(set(tiers)) != 1:
        raise pytest.UsageError(f"Expected {item.nodeid} to have one tier marker of {', '.join(TIERS)}, got {tiers}.")
    return tiers[0]


def pytest_collection_modifyitems(items):
    """The tests in the order of their tiers, those that lack something skipped.

    Tests that need a server or a page come first: with several processes the first of them keeps these, so that there
    is one server, and the others take over what is left when they have done their part.
    """
    import torch

    lacking = {}
    if not torch.cuda.is_available():
        lacking["gpu"] = "gpu: torch sees no CUDA device"
    if not chromium.find():
        lacking["browser"] = "browser: " + chromium.HOW
    for item in items:
        if tier(item) in lacking:
            item.add_marker(pytest.mark.skip(reason=lacking[tier(item)]))
    items.sort(key=lambda item: TIERS.index(tier(item)))


def pytest_collection_finish():
    """Keep what is imported out of garbage collections: the host makes one whenever a test has dropped a model."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Random numbers that a test or its fixtures draw do not depend on the tests before it."""
    import torch

    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter):
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    if any("browser" in report.keywords for report in reports):
        terminalreporter.write_line(f"screenshots of the page: {ARTEFACTS}")


@pytest.fixture(scope="session")
def artefacts():
    """A folder for what a person should look at."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    return ARTEFACTS


@pytest.fixture(scope="session")
def comfyui():
    """The host's folder."""
    return COMFYUI


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One real ComfyUI server with this pack, started by the first test that asks for it."""
    from safa_pack.tests.server import ComfyServer

    with ComfyServer(COMFYUI, tmp_path_factory.mktemp("comfyui")) as running:
        yield running
