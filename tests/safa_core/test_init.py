"""safa_core is a library of its own: torch is all it needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.core
ROOT = Path(__file__).resolve().parents[2]


def test_scripts_can_import_it_without_comfyui():
    code = "import sys, safa_core; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names = set(loaded.stdout.split())
    assert {"safa_core", "torch"} <= names
    assert not names & {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "safa_pack"}


def test_it_imports_nothing_but_torch_and_the_standard_library():
    for file in (ROOT / "safa_core").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level <= len(file.relative_to(ROOT).parts) - 1, file.name  # not out of the folder
                roots = {node.module.split(".")[0]} if node.level == 0 else set()
            else:
                continue
            assert roots <= sys.stdlib_module_names | {"torch"}, (file.name, roots)


def test_public_names_of_other_peoples_scripts_are_there():
    from safa_pack import safa_core

    names = "ViewPlan plan_views swap_pattern SwapJoin AverageJoin TriangularJoin ReferenceGuide joint_denoise"
    names += " Join ViewFold guided_steps"
    assert set(names.split()) <= set(safa_core.__all__)
    assert all(hasattr(safa_core, name) for name in safa_core.__all__)
