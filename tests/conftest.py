"""Makes the repository importable as `safa_pack` and puts the host in reach.

The folder of a pack has any name and the host owns the top-level name `nodes`, so tests import everything through
the alias: `safa_pack.safa_core`, `safa_pack.nodes`, `safa_pack.run`, and shared test code, such as
`safa_pack.tests.server`, too (tests is a namespace package: it must have no `__init__.py`).
The pack's own `__init__.py` is not executed here; the real server does that.
"""

import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
TIERS = {"core", "host", "server", "browser", "gpu"}

sys.path.insert(0, str(ROOT))  # left again in pytest_configure
import bootstrap  # noqa: E402

bootstrap.pack()

from safa_pack import run  # noqa: E402
from safa_pack.tests import chromium  # noqa: E402
from safa_pack.tests.server import ComfyServer  # noqa: E402

COMFYUI = bootstrap.host_folder()
ARTEFACTS = Path(os.environ.get("SAFA_ARTEFACTS") or run.DATA / "screenshots")


def pytest_configure():
    if run.is_comfyui(COMFYUI):
        bootstrap.host()
    else:  # enough for the tier core
        sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
    torch.set_num_threads(min(4, torch.get_num_threads()))


def pytest_collection_modifyitems(items):
    lacking = {
        "gpu": None if torch.cuda.is_available() else pytest.mark.skip(reason="gpu: torch sees no CUDA device"),
        "browser": None if chromium.find() else pytest.mark.skip(reason="browser: " + chromium.HOW),
    }
    for item in items:
        tiers = TIERS.intersection(mark.name for mark in item.iter_markers())
        if len(tiers) != 1:
            raise pytest.UsageError(
                f"Expected {item.nodeid} to have one tier marker ({', '.join(sorted(TIERS))}), got {sorted(tiers)}."
            )
        skip = lacking.get(tiers.pop())
        if skip:
            item.add_marker(skip)


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
    with ComfyServer(COMFYUI, tmp_path_factory.mktemp("comfyui")) as running:
        yield running
