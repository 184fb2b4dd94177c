"""ruff, then pytest on the chosen tiers: what `run.py test` starts with the host's interpreter."""

import argparse
import subprocess
import sys

import run
from tests import chromium

TIERS = ("core", "host", "server", "browser", "gpu")


def waited(*command):
    """Exit code of a Python command. Ctrl-C has reached it too: it gets the time to stop its servers."""
    with subprocess.Popen([sys.executable, *command]) as program:
        while True:
            try:
                return program.wait()
            except KeyboardInterrupt:
                continue


def offer_browser():
    """Sees to it that there is a browser; tests/conftest.py skips the tier where there is none."""
    if chromium.find():
        return
    if chromium.may_install():
        run.say("installing Debian's chromium for the tier browser")
        trouble = chromium.install()
        if not trouble:
            return
        run.say(trouble)
    run.say("the tier browser will be skipped: " + chromium.HOW)


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py test", description=__doc__.split(":")[0] + ".", allow_abbrev=False)
    parser.add_argument("--tier", action="append", default=[], help=", ".join(TIERS) + " (repeatable)")
    options, rest = parser.parse_known_args(argv)
    tiers = [tier for value in options.tier for tier in value.split(",")]
    if not set(TIERS).issuperset(tiers):
        raise run.Stop("Expected --tier to be of {}, got {}.".format(", ".join(TIERS), ", ".join(tiers)))
    selects = any(not part.startswith("-") for part in rest)  # files, or an expression: perhaps no browser's
    if "browser" in tiers or not (tiers or selects):
        offer_browser()
    lint = waited("-m", "ruff", "check", ".")
    code = waited("-m", "pytest", *(["-m", " or ".join(tiers)] if tiers else []), *rest)
    if code == 5:
        if not tiers or not {"browser", "gpu"}.issuperset(tiers):
            raise run.Stop("No test was selected.")
        run.say("there is no test of " + ", ".join(tiers))
        code = 0
    if lint:
        raise run.Stop("ruff has complaints: see its output above the tests.")
    return code


if __name__ == "__main__":
    sys.exit(run.told(main, sys.argv[1:]))
