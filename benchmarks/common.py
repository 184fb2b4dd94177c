"""What the benchmarks share: their command lines, processes of their own, clocks, and the machine's name."""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time

from ..bootstrap import ROOT

KILOBYTES = 1 if sys.platform == "darwin" else 1024  # bytes that a unit of ru_maxrss is


def parser(name: str, doc: str) -> argparse.ArgumentParser:
    """The command line of a benchmark, whose docstring is its help."""
    text = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"run.py bench {name}", description=doc, formatter_class=text)


def run_apart(name: str, *arguments: str) -> dict | None:
    """The figures that a benchmark prints as its last line, measured in a process of its own; None where it failed."""
    command = [sys.executable, "-m", "benchmarks", name, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return None if done.returncode else json.loads(done.stdout.splitlines()[-1])


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def clock() -> float:
    """Seconds: of this process on a CPU, which other processes do not lengthen; of the wall around a GPU."""
    import torch

    synchronize()
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def peak_of_process() -> int:
    """Most bytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTES


def peak() -> int:
    """Most bytes so far: of the GPU where there is one, of this process otherwise."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_of_process()


def machine() -> str:
    """GPU or processor, threads and torch, for the heading of a table."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
