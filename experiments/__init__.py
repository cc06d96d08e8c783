"""Programs that reproduce the paper's tables and figures; run from a clone as `python -m experiments.NAME`."""
