"""The house's one direction: which folder may import which, and no circles, read from the source."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.tools

ROOT = Path(__file__).resolve().parent.parent
PACK = "safa_pack"
# What each floor of `nodes` may import; what is not named here (canvas, sockets, errors, ...) is shared.
NODES = {
    "rivals": {"joint", "decode", "audio"},
    "report": {"joint", "decode", "audio"},
    "joint": {"decode", "audio"},
    "decode": {"audio"},
    "audio": set(),
}
# Folders of the repository, and which others each may import.
FOLDERS = {
    "safa_core": set(),
    "nodes": {"safa_core"},
    "demo": {"nodes", "safa_core"},
    "training": {"nodes", "safa_core"},
    "evaluation": {"training", "nodes", "safa_core"},
    "tools": {"demo", "training", "nodes", "safa_core", "evaluation"},
    "benchmarks": {"training", "evaluation", "nodes", "safa_core", "tests"},
}
ENTRIES = {"run", "host_setup", "bootstrap"}  # any program may start with these


def module_of(path):
    """The dotted name from the repository's root; a package's is its folder's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path, modules):
    """The repository's own modules that a file imports anywhere, in functions too."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            name = name.removeprefix(PACK).removeprefix(".")
            if name in modules:
                yield name


def house():
    """Module -> the modules of the repository that it imports."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    modules = {module_of(path): path for path in [*files, *(ROOT / f"{entry}.py" for entry in ENTRIES)]}
    return {name: set(imported(path, modules)) - {name} for name, path in modules.items()}


@pytest.fixture(scope="module")
def imports():
    return house()


def test_a_module_never_imports_itself_by_way_of_others(imports):
    # a package's `__init__` imports its modules, and they are reached through it: not a circle of thought
    packages = {name for name in imports if (ROOT / name.replace(".", "/")).is_dir()}
    plain = {name: found - packages for name, found in imports.items() if name not in packages}
    try:
        TopologicalSorter(plain).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def floor(module):
    """The folder of `nodes` that a module is in; None for what all share."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in NODES else None


def test_nodes_import_downwards_only(imports):
    upwards = []
    for module, found in imports.items():
        if not module.startswith("nodes."):
            continue
        here = floor(module)
        allowed = {None, here} | (NODES[here] if here else set())
        others = [other for other in found if other.startswith("nodes.")]
        upwards += [f"{module} -> {other}" for other in others if floor(other) not in allowed]
    assert not upwards


def test_folders_import_what_they_may(imports):
    strange = []
    for module, found in imports.items():
        folder = module.split(".")[0]
        if folder in ENTRIES:
            continue
        allowed = FOLDERS[folder] | {folder} | ENTRIES
        strange += [f"{module} -> {other}" for other in found if other.split(".")[0] not in allowed]
    assert not strange
    assert all(not name.startswith(("nodes", "safa_core")) or not found & ENTRIES for name, found in imports.items())


def test_every_folder_of_nodes_is_a_known_floor():
    folders = {path.name for path in (ROOT / "nodes").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(NODES)


def test_imports_are_found_at_all(imports):
    assert sum(map(len, imports.values())) > 400
    assert "safa_core.plan" in imports["safa_core.joins"]
    assert "nodes.joint.joint_run" in imports["nodes.joint.patch"]
