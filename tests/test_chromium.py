"""The browser of the tier browser: found, installed by Debian's package manager, or done without."""

import os
import shutil
from types import SimpleNamespace

import pytest

from safa_pack.tests import __main__ as main
from safa_pack.tests import chromium

pytestmark = [pytest.mark.tools, pytest.mark.skipif(os.name == "nt", reason="the programs here are shell scripts")]

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
    assert chromium.can_install()
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
    assert not chromium.can_install()


def test_nothing_is_installed_where_there_is_no_apt_get(path):
    assert not chromium.can_install()


def test_the_reason_of_a_failed_installation_is_one_line(path):
    path("apt-get", FAILING)
    assert chromium.install() == "`apt-get update` failed: E: Unable to locate package chromium"


def test_an_installation_that_brings_no_browser_is_noticed(path):
    path("apt-get")
    assert chromium.install() == "apt-get installed no chromium"


@pytest.fixture
def installs(path, monkeypatch):
    """How often the package manager was asked for a browser: by root, outside of CI, where nobody can be asked."""
    path("apt-get")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(main.host_setup, "can_ask", lambda: False)
    calls = []
    monkeypatch.setattr(chromium, "install", lambda: calls.append("apt-get") or "`apt-get update` failed: E: offline")
    return calls


SKIPPED = "[safa] the tier browser will be skipped: " + chromium.HOW


def test_nothing_is_installed_unasked_and_one_line_says_how(installs, capsys):
    main.provide_browser(wanted=False)
    assert installs == [] and "--install-browser" in chromium.HOW
    assert capsys.readouterr().out.splitlines() == [SKIPPED]


@pytest.mark.parametrize("yes", [True, False])
def test_a_person_at_the_terminal_is_asked(yes, installs, monkeypatch):
    monkeypatch.setattr(main.host_setup, "can_ask", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "y" if yes else "")
    main.provide_browser(wanted=False)
    assert len(installs) == yes


@pytest.mark.parametrize("ci", [True, False])
def test_the_option_and_ci_install_and_a_failure_is_told(ci, installs, monkeypatch, capsys):
    if ci:
        monkeypatch.setenv("CI", "true")
    main.provide_browser(wanted=not ci)
    assert len(installs) == 1
    started, failed, skipped = capsys.readouterr().out.splitlines()
    assert started == "[safa] installing Debian's chromium for the tier browser"
    assert (failed, skipped) == ("[safa] `apt-get update` failed: E: offline", SKIPPED)


def test_nothing_is_said_or_installed_where_there_is_a_browser(path, installs, capsys):
    path("chromium")
    main.provide_browser(wanted=True)
    assert installs == [] and capsys.readouterr().out == ""


class Item(SimpleNamespace):
    """What the collection of tests sees of a test."""

    def iter_markers(self):
        return [SimpleNamespace(name=self.tier)]

    def add_marker(self, mark):
        self.skipped = mark.kwargs["reason"]


def test_without_a_browser_its_tier_is_skipped_by_its_name_and_no_other(path, request):
    (conftest,) = (p for p in request.config.pluginmanager.get_plugins() if hasattr(p, "ARTEFACTS"))
    items = [Item(tier=name, nodeid=name, skipped=None) for name in ("core", "browser", "server")]
    conftest.pytest_collection_modifyitems(items)
    assert [(item.tier, item.skipped) for item in items] == [
        ("browser", "browser: " + chromium.HOW),
        ("server", None),
        ("core", None),
    ]
