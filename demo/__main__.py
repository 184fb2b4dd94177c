"""python -m demo, started by run.py in the repository's folder with the host's interpreter."""

import os
import sys
from pathlib import Path

import host_setup
import run

from .signals import interrupt_on_signals


def main(argv):
    interrupt_on_signals()
    from .make import Failed, run_demo
    from .options import options_or_exit

    options = options_or_exit(argv)
    arguments = ["--whitelist-custom-nodes", run.PACK]
    if not run.succeeds(sys.executable, "-c", run.HAS_GPU):
        arguments.append("--cpu")
    try:
        run_demo(Path(os.environ["SAFA_COMFYUI_PATH"]), options, arguments, host_setup.link_pack)
    except Failed as error:
        raise run.Stop(str(error)) from error


sys.exit(run.report_failure(main, sys.argv[1:]))
