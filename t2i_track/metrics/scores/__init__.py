"""The metrics: one file each, with its formula and what it declares of itself."""
