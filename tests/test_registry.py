"""What the Comfy registry and ComfyUI-Manager read of the pack."""

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from safa_pack.tests.packed import left_out, packed

pytestmark = pytest.mark.tools

ROOT = Path(__file__).resolve().parent.parent


def project():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_registry_takes_icon_and_banner():
    with Image.open(ROOT / "docs" / "icon.png") as icon, Image.open(ROOT / "docs" / "banner.png") as banner:
        assert icon.size == (400, 400)
        assert banner.width * 9 == banner.height * 21


def test_the_registry_takes_name_version_and_licence():
    told = project()["project"]
    assert re.fullmatch(r"[a-z][a-z0-9-]*", told["name"]) and "comfyui" not in told["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", told["version"])
    assert (ROOT / told["license"]["file"]).is_file()
    comfy = project()["tool"]["comfy"]
    assert comfy["PublisherId"] and comfy["DisplayName"] and re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])


def test_the_changelog_has_this_version():
    version = project()["project"]["version"]
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_eval_exec_and_two_statements_in_a_line_are_errors_here():
    """`comfy node validate` warns of ruff's S102, S307 and E702, and will refuse them."""
    chosen = project()["tool"]["ruff"]["lint"]["select"]
    assert {"S102", "S307"} <= set(chosen) and {"E", "E702"} & set(chosen)


def test_the_archive_has_the_pocket_model_and_what_the_page_shows():
    files = packed(ROOT)
    folders = ["models/safa-pocket", "workflows", "subgraphs", "locales", "web", "nodes", "safa_core", "demo"]
    there = {f"{folder}/" for folder in folders if any(file.startswith(folder + "/") for file in files)}
    assert there == {f"{folder}/" for folder in folders}
    assert not [file for file in left_out(ROOT) if file.startswith(tuple(there))]
    top = {"__init__.py", "run.py", "host_setup.py", "pyproject.toml", "requirements.txt"}
    assert {file for file in files if "/" not in file} == top | {"README.md", "CHANGELOG.md", "LICENSE"}


def test_the_archive_has_the_pictures_of_the_readme():
    shown = re.findall(r"!\[[^]]*]\(([^):]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown and set(shown) <= packed(ROOT)


def test_every_line_of_the_ignore_file_leaves_something_out_or_keeps_it(tmp_path):
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    alone = tmp_path / "ignore"
    for line in (line for line in lines if line and not line.startswith("#")):
        alone.write_text(line.removeprefix("!"))
        assert left_out(ROOT, alone), line


def test_nothing_in_the_archive_imports_what_is_not():
    out = {Path(file).parts[0] for file in left_out(ROOT) if file.endswith(".py")}
    for file in sorted(file for file in packed(ROOT) if file.endswith(".py")):
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                parts = {*(node.module or "").split("."), *(alias.name for alias in node.names)}
            elif isinstance(node, ast.Import):
                parts = {part for alias in node.names for part in alias.name.split(".")}
            else:
                continue
            assert not parts & out, f"{file}, line {node.lineno}"


def test_the_registry_takes_the_accelerators():
    """comfy-cli 1.23.0 knows these names, and drops all of them for one that it does not know."""
    known = {"NVIDIA CUDA", "AMD ROCm", "Intel Arc", "Apple Metal"}
    named = [name for name in project()["project"]["classifiers"] if name.startswith("Environment")]
    assert {name.removeprefix("Environment :: GPU :: ") for name in named} == known


def test_an_address_of_the_repository_is_one():
    """An empty one keeps `pip wheel` from working; publish.yml refuses to publish without one."""
    urls = project()["project"].get("urls", {})
    assert all(re.fullmatch(r"https://\S+", address) for address in urls.values()), urls


def test_actions_are_pinned_to_a_commit():
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        for action in re.findall(r"uses: (\S+)", file.read_text(encoding="utf-8")):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), f"{file.name}: {action}"


def test_the_public_tests_run_on_the_oldest_and_the_newest_python():
    oldest = project()["project"]["requires-python"].removeprefix(">=")
    newest = re.search(r"Python 3\.\d+ to (3\.\d+)", _source_of_setup())[1]
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    assert f'python: ["{oldest}", "{newest}"]' in workflow and "run.py test --tier core" in workflow


def _source_of_setup():
    return "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("*.py"))


# ---- The workflow that publishes ----

URLS = ("Repository", "Documentation", '"Bug Tracker"')
PYPROJECT = '[project]\nname = "safa"\nversion = "{}"\n\n[project.urls]\n{}'
CHANGES = "# Changelog\n\n## 0.2.0\n\n- Second.\n\n## 0.1.0\n\n- First.\n"
CLEAN = "\u2713 All validation checks passed successfully"


@pytest.fixture
def job(tmp_path):
    """step(name, version, address, ...) runs a step of publish.yml in a repository whose last version was 0.1.0."""
    yaml = pytest.importorskip("yaml", reason="the host's requirement PyYAML reads the workflow")
    if not shutil.which("bash") or not shutil.which("git"):
        pytest.skip("the steps are run by bash, with git")
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))
    scripts = {step["id"]: step["run"] for step in steps["jobs"]["publish"]["steps"] if "id" in step}
    tools, output = tmp_path / "tools", tmp_path / "output"
    tools.mkdir()
    (tools / "pipx").write_text('#!/bin/sh\necho "$SAID"\n')
    (tools / "pipx").chmod(0o755)
    commit = "git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -qm 0.1.0"
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.format("0.1.0", ""))
    subprocess.run(["bash", "-c", commit], cwd=tmp_path, check=True)

    def step(name, version, urls=URLS, said=CLEAN, before="HEAD"):
        addresses = "".join(f'{url} = "https://example.org/safa"\n' for url in urls)
        (tmp_path / "pyproject.toml").write_text(PYPROJECT.format(version, addresses))
        (tmp_path / "CHANGELOG.md").write_text(CHANGES)
        output.write_text("")
        env = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "GITHUB_OUTPUT": str(output)}
        env.update(BEFORE=before, RUNNER_TEMP=str(tmp_path), SAID=said)
        done = subprocess.run(
            ["bash", "-e", "-c", scripts[name]], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        return done.returncode, output.read_text(), done.stdout

    return step


@pytest.mark.parametrize(
    ("version", "before", "publishes"),
    [("0.1.0", "HEAD", False), ("0.2.0", "HEAD", True), ("0.1.0", "", True), ("0.1.0", "0" * 40, True)],
)
def test_a_push_publishes_if_it_changes_the_version(job, version, before, publishes):
    assert job("version", version, before=before)[:2] == (0, "changed=true\n" if publishes else "")


def test_what_is_published_has_the_notes_of_its_version(job):
    assert job("check", "0.2.0")[1] == "notes<<END OF NOTES\n\n- Second.\n\nEND OF NOTES\n"
    assert job("check", "0.1.0")[1] == "notes<<END OF NOTES\n\n- First.\nEND OF NOTES\n"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"version": "0.3.0"}, "CHANGELOG.md says nothing of 0.3.0."),
        ({"version": "0.2.0", "urls": URLS[1:]}, "Repository has no address."),
        ({"version": "0.2.0", "urls": URLS[:2]}, 'pyproject.toml: "Bug Tracker" has no address.'),
        ({"version": "0.2.0", "said": "Traceback"}, "did not pass."),
        ({"version": "0.2.0", "said": "Warning: no licence\n" + CLEAN}, "Its warnings are errors here."),
    ],
)
def test_nothing_is_published_with_a_warning_or_without_notes(job, wrong, told):
    code, _, printed = job("check", **wrong)
    assert code == 1 and printed.rstrip().endswith(told)
