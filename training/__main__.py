"""`python -m training` from the repository's root."""

import sys

import bootstrap

bootstrap.pack()
from safa_pack.training.options import arguments  # noqa: E402

if __name__ == "__main__":  # the processes that make the clips import this file too
    arguments(sys.argv[1:])  # --help, and what is wrong, are told before torch is imported
from safa_pack.training.train import main  # noqa: E402

if __name__ == "__main__":
    bootstrap.called_from()
    sys.exit(main(sys.argv[1:]))
