#!/usr/bin/env python3
"""One entry for people without ComfyUI: run.py setup | demo | serve | test | bench | train | eval | pages | draw.

`setup` makes .venv and brings the host (see host_setup.py), and every other command implies it.
Standard library only; the syntax is kept old, so that an old Python reaches the sentence about its age.
"""

import argparse
import contextlib
import errno
import importlib
import json
import os
import socket
import subprocess
import sys

if __package__:  # imported as a part of the pack
    from .host_setup import DATA, DISK_FULL, PACK, ROOT, Stop, ready, say, succeeds  # noqa: F401
else:
    from host_setup import DATA, DISK_FULL, PACK, ROOT, Stop, ready, say, succeeds  # noqa: F401

TEST_TOOLS = (
    "pytest==9.2.0",
    "pytest-xdist==3.8.0",
    "hypothesis==6.168.5",
    "ruff==0.17.5",
    "mypy==2.4.1",
    "playwright==1.65.2",
    "setuptools==80.9.0",  # builds the wheel of tests/safa_core/test_wheel.py without pip's index
    "comfyui-manager==4.2.2",  # what ComfyUI 0.30.0 asks for
)
PACKAGES = {  # by command: the folder that is run as a program, and what it does
    "demo": ("demo", "a loop made by the pocket model, in minutes"),
    "test": ("tests", "ruff, mypy and the tests"),
    "train": ("training", "train the pocket model"),
    "eval": ("evaluation", "the figures in docs"),
    "pages": ("tools.pages", "tables and names out of the nodes' schemas"),
    "draw": ("tools.draw", "the pictures"),
}
HAS_GPU = (
    "import sys, torch; gpu = getattr(torch, 'accelerator', torch.cuda).is_available(); "
    "sys.exit(not (gpu or torch.backends.mps.is_available()))"
)


def check_python(version):
    if version < (3, 10):
        raise Stop("Python 3.10 or newer is needed, this is {}.{}.".format(*version[:2]))


def setup(options, rest):
    if rest:
        raise Stop("Expected no argument of setup but --tests, got {}.".format(" ".join(rest)))
    ready(TEST_TOOLS if options.tests else ())


def check_port(listen, port):
    for address in listen.split(","):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except (OSError, OverflowError) as error:
                raise Stop(f"Port {port} at {address} is not free ({error}): choose another --port.") from None


def serve_command(host, options, rest):
    command = [str(host.python), str(host.folder / "main.py"), "--base-directory", str(DATA)]
    command += ["--database-url", "sqlite:///" + (DATA / "user" / "comfyui.db").as_posix()]
    command += ["--listen", options.listen, "--port", str(options.port)]
    if not host.managed and (host.folder / "models").is_dir():  # the user's models, beside those in DATA
        places = {place.name: str(place) for place in (host.folder / "models").iterdir() if place.is_dir()}
        (DATA / "own_models.yaml").write_text(json.dumps({"comfyui": places}), encoding="utf-8")  # JSON is YAML
        command += ["--extra-model-paths-config", str(DATA / "own_models.yaml")]
    if not {"--cpu", "--directml"}.intersection(rest) and not succeeds(host.python, "-c", HAS_GPU):
        say("torch sees no GPU: running on the CPU")
        command.append("--cpu")
    return command + rest


def serve(options, rest):
    check_port(options.listen, options.port)
    command = serve_command(ready(), options, rest)
    for place in ("user", "output", "models/checkpoints"):
        (DATA / place).mkdir(parents=True, exist_ok=True)
    say("$ " + " ".join(command))
    return become(command)


def become(command, env=None):
    """Gives this process up for another program, so that Ctrl-C and signals reach that one itself."""
    if os.name != "nt":
        os.execve(command[0], command, os.environ if env is None else env)
    program = subprocess.Popen(command, env=env)
    with contextlib.suppress(KeyboardInterrupt):  # the console has sent Ctrl-C to the program too
        program.wait()
    return program.wait()


def in_host(host, *command):
    """Becomes Python with the host's interpreter, which finds the host in SAFA_COMFYUI_PATH."""
    return become([str(host.python), *command], dict(os.environ, SAFA_COMFYUI_PATH=str(host.folder)))


def at_root(host, *module):
    """Becomes `python -m module` in the repository's folder; paths count from where run.py was called."""
    os.environ["SAFA_CALLED_FROM"] = os.getcwd()
    os.chdir(str(ROOT))
    return in_host(host, "-m", *module)


def bench(options, rest):
    known = sorted(script.stem for script in (ROOT / "benchmarks").glob("[a-z]*.py") if script.stem != "common")
    name = rest.pop(0) if rest and not rest[0].startswith("-") else "panorama"
    if name not in known:
        raise Stop("Expected a benchmark of {}, got {}.".format(", ".join(known), name))
    return at_root(ready(), "benchmarks", name, *rest)


def package(options, rest):
    if options.command == "demo":  # what is wrong is named before anything is installed
        rest += ["--out", str(importlib.import_module("demo.options").options_or_exit(rest).out)]
    tools = TEST_TOOLS if options.command == "test" else ()
    return at_root(ready(tools), PACKAGES[options.command][0], *rest)


def arguments(argv):
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__.split("\n\n")[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(command, text, **options):
        part = commands.add_parser(command.__name__, help=text, description=text, allow_abbrev=False, **options)
        part.set_defaults(run=command)
        return part

    part = add(setup, "install everything and link the pack; quick when it is done already")
    part.add_argument("--tests", action="store_true", help="and the tools of `test`")
    part = add(serve, "start ComfyUI with the pack; whatever else ComfyUI's main.py takes is passed on")
    part.add_argument("--port", type=int, default=8188)
    part.add_argument("--listen", nargs="?", default="127.0.0.1", const="0.0.0.0,::", metavar="ADDRESS")
    add(bench, "a benchmark (panorama unless another is named); its own options are passed on", add_help=False)
    for name, (_, text) in PACKAGES.items():
        commands.add_parser(name, help=text + "; --help lists its options", add_help=False).set_defaults(run=package)
    return parser.parse_known_args(argv)


def report_failure(function, *arguments):
    """Calls a command and returns its exit code; a failure is reported in one sentence."""
    try:
        return function(*arguments) or 0
    except Stop as stop:
        sentence = str(stop)
    except KeyboardInterrupt:
        sentence = "Interrupted; run it again to go on."
    except OSError as error:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
        sentence = DISK_FULL if full else f"{error.strerror}: {error.filename}."
    print("run.py: " + sentence, file=sys.stderr)
    return 1


def main(argv):
    check_python(sys.version_info)
    options, rest = arguments(argv)
    return options.run(options, rest)


if __name__ == "__main__":
    sys.exit(report_failure(main, sys.argv[1:]))
