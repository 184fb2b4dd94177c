"""`python -m evaluation` from the repository's root."""

import sys

import bootstrap

bootstrap.pack()
from safa_pack.evaluation.options import arguments  # noqa: E402

arguments(sys.argv[1:])  # --help, and what is wrong, are told before torch is imported
from safa_pack.evaluation.command import main  # noqa: E402

bootstrap.called_from()
sys.exit(main(sys.argv[1:]))
