"""Benchmarks: `python run.py bench NAME`, a module each; common.py holds what they share."""
