"""The browser of the tier browser: found, installed by Debian's package manager, or done without."""

import os
import shutil
import subprocess
import sys

import pytest

from safa_pack import run
from safa_pack.tests import chromium

pytestmark = [pytest.mark.core, pytest.mark.skipif(os.name == "nt", reason="the programs here are shell scripts")]

WORKING = f"""#!/bin/sh
echo "$DEBIAN_FRONTEND $@" >> "$0.log"
case "$*" in *install*) {shutil.which("cp")} "$0" "${{0%/*}}/chromium";; esac
"""
FAILING = """#!/bin/sh
echo "Reading package lists..."
echo "E: Unable to locate package chromium"
echo "W: something else"
exit 100
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The only folder that programs are looked for in; a function puts them there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "MAC", ())
    monkeypatch.setattr(chromium, "PROGRAMS", ())
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 0)

    def put(name, script="#!/bin/sh\n"):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
        return str(tmp_path / name)

    return put


@pytest.mark.parametrize("name", ["chromium", "google-chrome", "msedge"])
def test_an_installed_browser_is_taken(name, path):
    assert chromium.find() is None
    browser = path(name)
    assert chromium.find() == browser


def test_a_browser_in_its_usual_place_is_taken(path, tmp_path, monkeypatch):
    monkeypatch.setattr(chromium, "PROGRAMS", ("PROGRAMFILES",))
    monkeypatch.setenv("PROGRAMFILES", str(tmp_path))
    chrome = tmp_path / chromium.WINDOWS[0]
    assert chromium.find() is None
    chrome.parent.mkdir(parents=True)
    chrome.touch()
    assert chromium.find() == str(chrome)


def test_debian_s_chromium_is_installed_without_questions(path, tmp_path):
    apt_get = path("apt-get", WORKING)
    assert chromium.may_install()
    assert chromium.install() is None
    assert chromium.find() == str(tmp_path / "chromium")
    commands = (tmp_path / (os.path.basename(apt_get) + ".log")).read_text().splitlines()
    assert commands == [
        "noninteractive -o DPkg::Lock::Timeout=60 update",
        "noninteractive -o DPkg::Lock::Timeout=60 install -y --no-install-recommends chromium",
    ]


def test_nobody_but_root_installs(path, monkeypatch):
    path("apt-get", WORKING)
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 1000)
    assert not chromium.may_install()


def test_nothing_is_installed_where_there_is_no_apt_get(path):
    assert not chromium.may_install()


def test_the_reason_of_a_failed_installation_is_one_line(path):
    path("apt-get", FAILING)
    assert chromium.install() == "`apt-get update` failed: E: Unable to locate package chromium"


def test_an_installation_that_brings_no_browser_is_noticed(path):
    path("apt-get")
    assert chromium.install() == "apt-get installed no chromium"


def offered(folder):
    """What a person reads when the suite looks for a browser."""
    done = subprocess.run(
        [sys.executable, "-c", "import tests.__main__ as main; main.chromium.MAC = (); main.offer_browser()"],
        cwd=run.ROOT,
        env=dict(os.environ, PATH=str(folder)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root may install")
def test_a_failed_installation_is_told_and_the_tier_named_that_is_skipped(path, tmp_path):
    path("apt-get", FAILING)
    started, failed, skipped = offered(tmp_path)
    assert started == "[safa] installing Debian's chromium for the tier browser"
    assert failed.startswith("[safa] `apt-get update` failed: E: ")
    assert skipped == "[safa] the tier browser will be skipped: " + chromium.HOW


def test_without_apt_get_one_is_told_how_to_get_a_browser(path, tmp_path):
    assert offered(tmp_path) == ["[safa] the tier browser will be skipped: " + chromium.HOW]


def test_nothing_is_said_or_installed_where_there_is_a_browser(path, tmp_path):
    path("chromium")
    path("apt-get", WORKING)
    assert offered(tmp_path) == []
    assert not (tmp_path / "apt-get.log").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere browsers lie outside of PATH")
def test_tests_of_the_page_are_skipped_by_the_tier_s_name(tmp_path):
    command = [sys.executable, "-m", "pytest", "tests/browser", "-q", "-m", "browser"]
    places = {"PATH": str(tmp_path), "SAFA_ARTEFACTS": str(tmp_path / "none")}
    done = subprocess.run(command, cwd=run.ROOT, env=dict(os.environ, **places), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert f"browser: {chromium.HOW}"[:60] in done.stdout
    assert "passed" not in done.stdout and "screenshots" not in done.stdout
    assert not (tmp_path / "none").exists()
