"""Ctrl-C and the polite ways to end a process: one KeyboardInterrupt, never in the middle of a fork."""

import signal
import threading
from contextlib import contextmanager

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def interrupt_on_signals() -> None:
    """From now on the first signal raises KeyboardInterrupt, and those after it leave the tidying up in peace.

    What is ignored already (nohup) stays so.
    """

    def interrupt(number, frame):
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in SIGNALS:
        if signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, interrupt)


@contextmanager
def held_back():
    """Signals wait until the block is through: a process that was just started must be known before one can stop it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(each, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in came[:1]:
            signal.raise_signal(number)
