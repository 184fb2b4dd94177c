"""Imports between the folders of the pack run downwards, and no file imports itself by way of others."""

import ast
from functools import lru_cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.core

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("safa_core", "nodes")
# each folder of `nodes` -> the folders that its files may import besides itself and what all share
BELOW = {
    "audio": set(),
    "decode": {"audio"},
    "joint": {"audio", "decode"},
    "rivals": {"audio", "decode", "joint"},
    "report": {"audio", "decode", "joint"},
}


def sources():
    """{("nodes", "joint", "patch"): file}; a package is called by its folder alone."""
    found = {}
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            name = file.relative_to(ROOT).with_suffix("").parts
            found[name[:-1] if name[-1] == "__init__" else name] = file
    return found


@lru_cache
def imports():
    """{module: the modules of FOLDERS that it imports, within functions too}."""
    files = sources()
    arrows = {}
    for name, file in files.items():
        package = name if file.name == "__init__.py" else name[:-1]
        arrows[name] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            above = package[: len(package) - node.level + 1]
            base = (*above, *node.module.split(".")) if node.module else above
            for alias in node.names:
                target = (*base, alias.name)
                arrows[name].add(target if target in files else base)
        arrows[name] &= files.keys()
    return arrows


def circle(arrows):
    """A path of modules that ends where it begins, or None."""
    done = set()

    def search(name, path):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        for target in sorted(arrows[name]):
            found = search(target, [*path, name])
            if found:
                return found
        done.add(name)
        return None

    for name in arrows:
        found = search(name, [])
        if found:
            return [".".join(part) for part in found]
    return None


def test_no_file_imports_itself_by_way_of_others():
    assert circle(imports()) is None


def test_a_circle_would_be_found():
    assert circle({("a",): {("b",)}, ("b",): {("c",)}, ("c",): {("b",)}}) == ["b", "c", "b"]


def test_folders_of_nodes_import_what_is_below_them():
    upward = []
    for name, targets in imports().items():
        for target in targets:
            if name[0] != "nodes" or target[0] != "nodes" or len(target) < 3 or name == ("nodes",):
                continue
            own = name[1] if len(name) > 2 else "what all share"
            if target[1] != own and target[1] not in BELOW.get(own, set()):
                upward.append(f"{'.'.join(name)} -> {'.'.join(target)}")
    assert not upward


def test_safa_core_imports_nothing_of_nodes():
    for name, targets in imports().items():
        if name[0] == "safa_core":
            assert {target[0] for target in targets} <= {"safa_core"}, name


def test_every_folder_of_nodes_has_its_place():
    assert {name[1] for name in sources() if name[0] == "nodes" and len(name) > 2} == BELOW.keys()
    assert sum(map(len, imports().values())) > 100  # imports are found at all
