"""`pip install` of the repository brings safa_core to people without ComfyUI."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.core
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"```python\n(.+?)```", re.S)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the wheel holds; built from a copy, as setuptools writes beside its sources."""
    installed = {part.metadata["Name"].lower(): part.version for part in importlib.metadata.distributions()}
    version = [int(number) for number in installed.get("setuptools", "0.0").split(".")[:2]]
    if "pip" not in installed or version < [70, 1]:
        pytest.skip("this needs pip and a setuptools that builds wheels by itself, 70.1 or newer")
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "target"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    for folder in ("safa_core", "nodes", "tests"):  # two that must not get into it
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(wheels)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(source)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = wheels.glob("safa-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_the_wheel_holds_all_of_safa_core_and_nothing_else(installed):
    files = {str(file.relative_to(installed)) for file in installed.rglob("*.py")}
    assert files == {str(file.relative_to(ROOT)) for file in (ROOT / "safa_core").rglob("*.py")}


def test_the_example_for_python_runs_with_the_wheel_and_torch_alone(installed, tmp_path):
    """In a fresh interpreter that refuses every package that is not safa_core, torch or what torch itself loads."""
    (example,) = EXAMPLE.findall((ROOT / "docs" / "python.md").read_text(encoding="utf-8"))
    code = f"""
import sys
sys.path.insert(0, {str(installed)!r})
import torch
before = {{name.split(".")[0] for name in sys.modules}}
step = lambda views, k: views
{example}
assert canvas.shape == (1, 4, 64, 400) and reference.shape == (1, 4, 64, 80)
import safa_core.timeline, safa_core.sound.mel, safa_core.sound.vocode, safa_core.methods.merge_attend
import safa_core.methods.lite_focus, safa_core.methods.sync_diffusion, safa_core.measures.spectrum
assert safa_core.__file__.startswith({str(installed)!r}), safa_core.__file__
others = {{name.split(".")[0] for name in sys.modules}} - before - set(sys.stdlib_module_names) - {{"safa_core"}}
assert not others, others
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
