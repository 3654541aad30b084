"""Several drivers at once: a process that has imported what takes seconds to import, and forks one for each.

Its arguments are the number of drivers, of runs of each, the home folder and the database's address. A driver makes
runs with the embedded model, all of the same prompts in an order of its own, and tells them to `mlflow-N.db`; all begin
at the same instant. What a driver says goes to the file `err-N`.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path

from warm import WARM

PROMPTS = 40


def main() -> None:
    drivers, runs, home, url = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5]
    for name in (*WARM, "t2i_track.runs.generate", "t2i_track.runs.launch", "sqlalchemy.dialects.sqlite", "psycopg"):
        importlib.import_module(name)
    gate, opened = os.pipe()
    children = [start(number, runs, Path(home), url, gate, opened) for number in range(drivers)]
    os.close(opened)  # the end of the file is the signal
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(codes)


def start(number: int, runs: int, home: Path, url: str, gate: int, opened: int) -> int:
    if child := os.fork():
        return child
    os.close(opened)
    os.dup2(os.open(f"err-{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    try:
        os.read(gate, 1)
        drive(number, runs, home, url, f"sqlite:///mlflow-{number}.db")
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - a child must not go on as its parent does
        traceback.print_exc()
        os._exit(1)
    from t2i_track.db.sqlite import close_all

    close_all()
    os._exit(0)


def drive(number: int, runs: int, home: Path, url: str, tracking_uri: str) -> None:
    import t2i_track

    turned = [f"prompt {(place + 5 * number) % PROMPTS}" for place in range(PROMPTS)]
    for run in range(runs):
        t2i_track.generate(
            prompt=turned, num=4, steps=1, guidance=1 + run, seed=number, batch_size=2, device="cpu", evaluate=False,
            run_name=f"run {number}-{run}", home=home, db_url=url, tracking_uri=tracking_uri,
        )  # fmt: skip


if __name__ == "__main__":
    main()
