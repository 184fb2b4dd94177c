"""Ctrl-C at any moment: once, and never between a fork and knowing the child."""

import os
import subprocess
import sys

import pytest

from safa_pack import run

pytestmark = [pytest.mark.tools, pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")]

HELD = """
import os, signal
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # ignored where a script has started us in its background
    signal.signal(each, signal.SIG_DFL)
from demo.signals import held_back, interrupt_on_signals
interrupt_on_signals()
known = False
try:
    with held_back():
        os.kill(os.getpid(), signal.{name})
        os.kill(os.getpid(), signal.SIGINT)
        known = True
    print("went on")
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    print("tidied up", known)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_waits_for_the_child_to_be_known_and_no_other_disturbs_the_tidying_up(name):
    done = subprocess.run([sys.executable, "-c", HELD.format(name=name)], cwd=run.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "tidied up True\n", "")


def test_what_was_ignored_stays_ignored_as_nohup_wants_it():
    script = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from demo.signals import held_back, interrupt_on_signals; interrupt_on_signals()\n"
        "with held_back(): os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=run.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "goes on\n")
