"""The paper's figures, measured: `python -m evaluation --pocket` (or `python run.py eval --pocket`)."""
