"""Which function of another node an error came from."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import Any

import comfy.model_management
from comfy.samplers import Sampler

from .schedule import is_foreign

PACK = __name__.rsplit(".nodes.", 1)[0]
# what code raises that is given a tensor of another shape than it expects
UNFIT = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError)
HOST = ("samplers.py", "model_base.py", "patcher_extension.py")  # where the host goes on from a function to others
GUIDANCE = ("sampler_pre_cfg_function", "sampler_cfg_function", "sampler_post_cfg_function")


class CallerError(ValueError):
    """A call of ours that another node made in a way that cannot be served."""


def functions_of(model_options: dict) -> Iterator[Any]:
    """Everything that other nodes have put on a model to be called while sampling."""
    for name, value in model_options.items():
        if name != "transformer_options":
            yield from _callables(value)
    options = model_options.get("transformer_options", {})
    for place in ("patches", "patches_replace", "wrappers", "callbacks"):
        yield from _callables(options.get(place, {}))
    yield from _callables(list(options.values()))


def _callables(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _callables(item)
    elif callable(value):
        yield value


def _code_of(function: Any) -> CodeType | None:
    function = getattr(function, "func", function)  # functools.partial
    function = getattr(function, "__func__", function)
    method = function if hasattr(function, "__code__") else vars(type(function)).get("__call__")
    return getattr(method, "__code__", None)


def _named(function: Any) -> Any:
    """What carries the name of a function or callable object."""
    function = getattr(function, "func", function)
    return function if hasattr(function, "__qualname__") else type(function)


def name_of(function: Any) -> str:
    """A function or callable object as module and name; the host gives modules of packs their path for a name."""
    named = _named(function)
    module = named.__module__.replace("\\", "/").rsplit("/", 1)[-1]
    return f"{module}.{named.__qualname__}"


def culprit(error: BaseException, model_options: dict) -> str | None:
    """The function of another node that an error was raised in, or by a call of it to us: "module.name", or None.

    None too for errors that are no node's fault: memory that ran out, or what a function that only hands on meets.
    """
    if comfy.model_management.is_oom(error):
        return None
    functions = {_code_of(f): f for f in functions_of(model_options) if not _named(f).__module__.startswith(PACK)}
    found = None
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code in functions:
            found = name_of(functions[code])
        elif code.co_filename.endswith(HOST) and not isinstance(error, CallerError):
            found = None
        trace = trace.tb_next
    return found


def sentence_for(error: Exception, model_options: dict, sampler: Sampler | None) -> str | None:
    """What went wrong while sampling, where another node is at fault, and what to do; else None.

    sampler: the sampler where the latent is longer than the canvas, or None.
    """
    reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    function = culprit(error, model_options)
    if function is not None:
        return (
            f"{function}, which another node has put on this model, failed ({reason}); it may be made for one picture "
            "of the canvas's size, while the model runs on a batch of views: leave it out, or use it without SaFa."
        )
    if sampler is not None and is_foreign(sampler):
        function = culprit(error, {"sampler": sampler.sampler_function})
    if function is not None:
        return (
            f"the sampler {function} failed ({reason}); it may keep something of the canvas's size, while a reference "
            "makes the latent one view longer: choose another sampler, or leave out Reference Swap."
        )
    return f"another node failed: {reason}." if isinstance(error, CallerError) else None
