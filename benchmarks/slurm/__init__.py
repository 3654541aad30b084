"""A real Slurm on one machine, and what is tried on it."""
