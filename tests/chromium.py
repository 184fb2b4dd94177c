"""The browser of the browser tier: the one that is there or, on Debian as root, one that is installed."""

import os
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge")
MAC = ("Google Chrome", "Chromium", "Microsoft Edge")  # /Applications/NAME.app/Contents/MacOS/NAME
WINDOWS = ("Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe")
PROGRAMS = ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
HOW = "no Chromium, Chrome or Edge was found; install one (Debian, as root: `python run.py test --install-browser`)"
APT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}


def find():
    """The path of an installed Chromium or a relative of it, else None."""
    usual = [Path("/Applications", f"{name}.app", "Contents", "MacOS", name) for name in MAC]
    usual += [Path(os.environ[root], part) for root in PROGRAMS if root in os.environ for part in WINDOWS]
    named = (shutil.which(name) for name in NAMES)
    return next(filter(None, named), None) or next((str(path) for path in usual if path.is_file()), None)


def can_install():
    """Whether Debian's package manager is here and we are root."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None


def install():
    """Installs Debian's chromium; None, or why it is not there after all, in one line."""
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        code, output = _apt_get(*command)
        if code:
            reasons = [line for line in output.splitlines() if line.startswith("E: ")] or output.splitlines()
            return f"`apt-get {' '.join(command)}` failed: " + (reasons or [f"exit code {code}"])[-1].strip()
    return None if find() else "apt-get installed no chromium"


def _apt_get(*command):
    """(exit code, output). After Ctrl-C it waits for apt-get to end, so that no package is left half installed."""
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=60", *command]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=dict(os.environ, **APT), text=True, errors="replace", **pipes) as process:
        try:
            output = process.communicate()[0]
        except KeyboardInterrupt:
            process.communicate()
            raise
    return process.returncode, output
