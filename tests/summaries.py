"""What a run came to, made up, for the tests of what is said of it."""

from __future__ import annotations

from typing import Any

from t2i_track.runs.plan import Summary

RUN = "0123456789abcdef0123456789abcdef"


def summary(**fields: Any) -> Summary:
    given: dict[str, Any] = {
        "run": RUN, "name": "a run", "experiment": "two words", "status": "finished", "mlflow_run_id": "m",
        "guidance": 12.0, "steps": 30, "scheduler": "pndm", "folder": "t2i-data/images/0123456789ab", "images": 64,
        "made": 64, "truncated": 0, "flagged": 0, "not_finite": 0, "mended": 0, "seconds": 13.2,
        "images_per_second": 4.848, "unsent": False,
    }  # fmt: skip
    return Summary(**{**given, **fields})
