"""What the benchmarks share: a manifest of embedded captions, timed commands, a line of result."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

from t2i_track import shapes


def write_manifest(path: Path, num: int) -> Path:
    """The first embedded held-out captions, as the old scripts' CSV."""
    rows = shapes.manifest_rows("val", num)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_users_have() -> dict[str, str]:
    """The environment, with bytecode kept: some shells forbid it, and then each start compiles all modules anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def timed(folder: Path, *command: object) -> float:
    """Seconds of a command that must succeed, with an MLflow store in the folder."""
    environment = {**as_users_have(), "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    started = time.perf_counter()
    done = subprocess.run([str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{command}: {done.stderr[-2000:]}")
    return seconds
