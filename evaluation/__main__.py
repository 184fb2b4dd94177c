"""`python -m evaluation` from the repository's root."""

import os
import sys

import bootstrap

bootstrap.add_pack()

from safa_pack.evaluation.command import main  # noqa: E402

os.chdir(os.environ.get("SAFA_CALLED_FROM", os.curdir))  # run.py started this in its own folder
sys.exit(main(sys.argv[1:]))
