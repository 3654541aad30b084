"""`python -m t2i_track`."""

from t2i_track.cli import run

run()
