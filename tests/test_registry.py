"""What the Comfy registry and ComfyUI-Manager read of the pack."""

import re
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.core

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
