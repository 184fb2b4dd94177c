"""`python -m training` from the repository's root."""

import os
import sys

import bootstrap

bootstrap.add_pack()

from safa_pack.training.train import main  # noqa: E402

if __name__ == "__main__":  # the processes that make the clips import this file too
    os.chdir(os.environ.get("SAFA_CALLED_FROM", os.curdir))  # run.py started this in its own folder
    sys.exit(main(sys.argv[1:]))
