"""The only part that calls MLflow: runs opened, written, watched and served."""

from t2i_track.tracking.comparing import differences
from t2i_track.tracking.experiments import experiment_of_environment
from t2i_track.tracking.opening import joined, open_run
from t2i_track.tracking.outbox import send_unsent, unsent
from t2i_track.tracking.patience import waiting
from t2i_track.tracking.records import RUN_TAG, SWEEP_TAG, Content, Grid, Joined, Opening, RunInfo, Table
from t2i_track.tracking.removing import bring_back, put_away
from t2i_track.tracking.serving import server_command
from t2i_track.tracking.store import resolve, shown
from t2i_track.tracking.tracker import Tracker
from t2i_track.tracking.writing import write

__all__ = [
    "RUN_TAG",
    "SWEEP_TAG",
    "Content",
    "Grid",
    "Joined",
    "Opening",
    "RunInfo",
    "Table",
    "Tracker",
    "bring_back",
    "differences",
    "experiment_of_environment",
    "joined",
    "open_run",
    "put_away",
    "resolve",
    "send_unsent",
    "server_command",
    "shown",
    "unsent",
    "waiting",
    "write",
]
