"""ruff, mypy, then pytest on the chosen tiers: what `run.py test` starts with the host's interpreter."""

import argparse
import os
import subprocess
import sys

import bootstrap

bootstrap.pack()

from safa_pack import host_setup, run  # noqa: E402
from safa_pack.tests import chromium  # noqa: E402

TIERS = {  # tier: the only folder that its tests lie in, where there is one
    "core": "tests/safa_core",
    "tools": None,
    "host": None,
    "server": None,
    "browser": None,
    "gpu": None,
}
PAGE = "comfyui-frontend-package"
MOST_WORKERS = 4  # each may have a ComfyUI of its own, with models


def environment():
    """With a place for compiled modules: tests start many processes, also where Python is told to leave none."""
    variables = dict(os.environ, PYTHONPYCACHEPREFIX=str(run.ROOT / ".host" / "pycache"))
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def run_python(*command):
    """Exit code of a Python command. Ctrl-C has reached it too: it gets the time to stop its servers."""
    with subprocess.Popen([sys.executable, *command], env=environment()) as program:
        while True:
            try:
                return program.wait()
            except KeyboardInterrupt:
                continue


def provide_browser(wanted):
    """Sees to it that there is a browser: asks before it installs one, or `wanted`; else the tier is skipped."""
    if chromium.find():
        return
    if chromium.can_install():
        question = "The tier browser needs a browser. Install Debian's chromium with apt-get now?"
        if wanted or os.environ.get("CI") == "true" or (host_setup.can_ask() and host_setup.confirm(question)):
            run.say("installing Debian's chromium for the tier browser")
            trouble = chromium.install()
            if not trouble:
                return
            run.say(trouble)
    run.say("the tier browser will be skipped: " + chromium.HOW)


def install_page(version):
    """The static files of ComfyUI's page in another version than the host pins, `newest` or its number, under .host."""
    folder = run.ROOT / ".host" / "page"
    wanted = PAGE if version == "newest" else f"{PAGE}=={version}"
    options = ["--upgrade", "--no-deps", "--target", folder]
    host_setup.call(sys.executable, "-m", "pip", "install", *options, wanted)
    return folder / PAGE.replace("-", "_") / "static"


def lint():
    """Exit codes of ruff and mypy."""
    host_setup.link_pack(run.ROOT / ".host" / "types", "safa_pack")  # what mypy calls it in pyproject.toml
    commands = [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)]
    return [run_python("-m", *command) for command in commands]


def workers(arguments):
    """pytest's options for several processes, one for each core, where the arguments do not say how many."""
    if any(part.startswith(("-n", "--numprocesses", "--dist", "--pdb", "-s")) for part in arguments):
        return []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(cores, MOST_WORKERS)
    return ["-n", str(count), "--dist", "worksteal"] if count > 1 else []


def selection(tiers, arguments):
    """pytest's options for some tiers: a marker, and the folder where that is all and no place is given."""
    if not tiers:
        return []
    folders = [TIERS[tier] for tier in tiers]
    places = [part for part in arguments if os.path.exists(part.split("::")[0])]
    return ["-m", " or ".join(tiers), *(folders if all(folders) and not places else [])]


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py test", description=__doc__.split(":")[0] + ".", allow_abbrev=False)
    parser.add_argument("--tier", action="append", default=[], help=", ".join(TIERS) + " (repeatable)")
    parser.add_argument("--install-browser", action="store_true", help="with apt-get; CI=true does so too")
    parser.add_argument(
        "--page", metavar="VERSION", help="of ComfyUI's page, a number or `newest`; else the host's own"
    )
    options, rest = parser.parse_known_args(argv)
    tiers = [tier for value in options.tier for tier in value.split(",")]
    if not set(TIERS).issuperset(tiers):
        raise run.Stop("Expected --tier to be of {}, got {}.".format(", ".join(TIERS), ", ".join(tiers)))
    selects = any(not part.startswith("-") for part in rest)  # files, or an expression: perhaps no browser's
    if "browser" in tiers or options.install_browser or not (tiers or selects):
        provide_browser(options.install_browser)
    if options.page:
        os.environ["SAFA_PAGE"] = str(install_page(options.page))  # for the servers of the tests
    complaints = any(lint())
    code = run_python("-m", "pytest", *selection(tiers, rest), *workers(rest), *rest)
    if code == 5:
        if not tiers or not {"browser", "gpu"}.issuperset(tiers):
            raise run.Stop("No test was selected.")
        run.say("there is no test of " + ", ".join(tiers))
        code = 0
    if complaints:
        raise run.Stop("ruff or mypy has complaints: see the output above the tests.")
    return code


if __name__ == "__main__":
    sys.exit(run.report_failure(main, sys.argv[1:]))
