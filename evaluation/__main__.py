"""`python -m evaluation` from the repository's root."""

import os
import sys
import types
from pathlib import Path

# The folder of a pack has any name; inside, everything is imported relatively, through this alias.
pack = types.ModuleType("safa_pack")
pack.__path__ = [str(Path(__file__).resolve().parent.parent)]
sys.modules["safa_pack"] = pack

from safa_pack.evaluation.command import main  # noqa: E402

os.chdir(os.environ.get("SAFA_CALLED_FROM", os.curdir))  # run.py started this in its own folder
sys.exit(main(sys.argv[1:]))
