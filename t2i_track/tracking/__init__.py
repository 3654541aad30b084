"""The only part that calls MLflow: runs, their records, and what could not be sent yet."""

from t2i_track.tracking.records import RunInfo, Sent, not_sent
from t2i_track.tracking.resync import Resync, resync, waiting
from t2i_track.tracking.serving import server_command
from t2i_track.tracking.tracker import Tracker

__all__ = ["Resync", "RunInfo", "Sent", "Tracker", "not_sent", "resync", "server_command", "waiting"]
