"""The paper's tables and sweeps on a user's own models: `python run.py eval --protocol table2 --model FOLDER`."""
