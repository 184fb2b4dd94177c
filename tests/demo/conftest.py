"""The repository as a clone has it, with the pocket model or, where there is none yet, a stand-in of its layout."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from safa_pack import run

POCKET = run.ROOT / "models" / "safa-pocket"
PARTS = ("__init__.py", "run.py", "host_setup.py", "nodes", "safa_core", "demo", "workflows")


@dataclass
class Clone:
    """root: the copy. environment: for its programs, its temporary files below `temporary`."""

    root: Path
    temporary: Path
    environment: dict

    def leftovers(self):
        return sorted(path.name for path in self.temporary.iterdir())


@pytest.fixture(scope="session")
def clone_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("clone") / "ComfyUI-SaFa"
    root.mkdir()
    for name in PARTS:
        copy = shutil.copytree if (run.ROOT / name).is_dir() else shutil.copy
        copy(run.ROOT / name, root / name)
    if POCKET.is_dir():
        shutil.copytree(POCKET, root / "models" / POCKET.name)
    else:
        from safa_pack.tests.demo.stand_in import stand_in  # needs the host in reach

        (root / "models").mkdir()
        stand_in(root / "models" / POCKET.name)
    return root


@pytest.fixture
def clone(clone_root, tmp_path, comfyui):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    places = {"TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary)}
    places["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "torch")  # torch leaves it on purpose
    return Clone(clone_root, temporary, dict(os.environ, SAFA_COMFYUI_PATH=str(comfyui), **places))
