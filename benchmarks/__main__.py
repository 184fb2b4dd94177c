"""`python -m benchmarks NAME ...` from the repository's root: run one benchmark with its options."""

import importlib
import sys

import bootstrap

bootstrap.pack()
bootstrap.called_from()
name, *rest = sys.argv[1:]
importlib.import_module(f"safa_pack.benchmarks.{name}").main(rest)
