"""Text from a user or a file never holds the interpreter: no pattern of the pack goes back and forth over it."""

import ast
import importlib
import re
import signal
from itertools import product

import pytest

from safa_pack import run
from safa_pack.safa_core import plan_views
from safa_pack.safa_core.timeline import Ruler, read_timeline

pytestmark = pytest.mark.core
SIZE = 10**5  # characters
PATIENCE = 2.0  # seconds of processor time: a linear look takes a millisecond, a quadratic one minutes
FOLDERS = ("nodes", "safa_core", "demo")
RUNS = ("1", " ", "\t", "a", ".", "-", ":")  # what repetitions of patterns are made for
HEADS, TAILS = ("", "1"), ("", "x")
RULER = Ruler(plan_views(200, 80, 0.25), "seconds", 0.1)


def patterns():
    """(where, compiled) of all that the pack looks for with `re`, which are constants or compiled at import."""
    found = []
    for path in (path for folder in FOLDERS for path in sorted((run.ROOT / folder).rglob("*.py"))):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = path.relative_to(run.ROOT).with_suffix("").as_posix()
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        calls = [node for node in calls if ast.unparse(node.func).startswith("re.")]
        compiled = [node for node in calls if ast.unparse(node.func) == "re.compile"]
        for call in calls:
            if call not in compiled:
                found.append((where, re.compile(ast.literal_eval(call.args[0]))))
        if compiled:
            module = importlib.import_module("safa_pack." + where.replace("/", "."))
            held = [value for value in vars(module).values() if isinstance(value, re.Pattern)]
            assert len(held) == len(compiled), f"{where}: patterns are compiled where the module is imported"
            found += [(where, pattern) for pattern in held]
    return found


def awkward():
    """Long texts that make a pattern with two ways to match the same run try all of them."""
    for head, first, second, tail in product(HEADS, RUNS, RUNS, TAILS):
        yield head + first * (SIZE // 2) + second * (SIZE // 2) + tail
    for run_of in RUNS:
        yield "1" + run_of * (SIZE // 2) + "-" + run_of * (SIZE // 2) + "x"


@pytest.fixture
def hurry():
    """Ends a test that computes for longer than PATIENCE between two calls of what this returns."""

    def late(*_):
        raise AssertionError(f"a look through {SIZE} characters took more than {PATIENCE} s")

    before = signal.signal(signal.SIGVTALRM, late)
    yield lambda: signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer of processor time here")


@needs_timer
@pytest.mark.parametrize(("where", "pattern"), patterns())
def test_no_pattern_holds_the_interpreter_over_a_long_text(where, pattern, hurry):
    for text in awkward():
        hurry()
        pattern.fullmatch(text)
        pattern.match(text)
        if where != "safa_core/timeline":  # its patterns are for the beginnings of lines
            for _ in pattern.finditer(text):
                pass


@needs_timer
def test_no_line_of_a_timeline_holds_the_server(hurry):
    for text in awkward():
        hurry()
        try:
            read_timeline(text, RULER)
        except ValueError as refusal:
            assert len(str(refusal)) < 1000
