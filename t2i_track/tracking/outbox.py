"""What has not reached MLflow yet: a folder for each run, a numbered file for each operation, sent in that order."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from t2i_track.errors import Busy, TrackingError

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes from sending the same folder, and sending twice is harmless
    fcntl = None  # type: ignore[assignment]

MAX_METRICS, MAX_PARAMS_OR_TAGS, MAX_BYTES = 1000, 100, 800_000
"""MLflow's limits for one ``log_batch``, a little less for the last (1 MB of JSON)."""


@dataclass(frozen=True)
class Operation:
    """``kind`` names a function of ``sending``; ``data`` is JSON; ``files`` is a folder of artifacts or None."""

    kind: str
    data: dict[str, Any]
    files: Path | None
    numbers: tuple[int, ...]
    """The files it was read from: several where small ones were joined."""


class Outbox:
    """The unsent operations of one run. A folder is open in one process at a time, and in any number of threads."""

    def __init__(self, root: Path, run_id: str, uri: str | None = None) -> None:
        """Open or make the folder; ``uri`` is where its operations go, None: where they were meant to go before.

        Raises:
            Busy: another process has it open.
            TrackingError: the folder cannot be written.
        """
        self.run_id, self.folder = run_id, root / run_id
        self._changed = threading.Lock()
        try:
            self._lock = self._acquire()
            self.uri = self._target(uri)
            self._numbers = deque(sorted(int(path.stem) for path in self.folder.glob("[0-9]*.json")))
            self._sweep()
        except OSError as error:
            raise TrackingError(f"{self.folder}: the outbox cannot be written: {error.strerror}") from None
        refused = (int(path.stem) for path in (self.folder / "refused").glob("[0-9]*.json"))
        self._last = max([*self._numbers, *refused], default=0)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def refused(self) -> int:
        """Operations that MLflow will never take, kept in ``refused/`` with the reason."""
        return sum(1 for _ in (self.folder / "refused").glob("[0-9]*.json"))

    def append(self, kind: str, data: dict[str, Any], fill: Callable[[Path], None] | None = None) -> None:
        """Keep an operation; ``fill`` puts its artifacts into the folder that it is given."""
        with self._changed:
            number = self._last = self._last + 1
        path = self._path(number)
        try:
            if fill is not None:
                path.with_suffix(".files").mkdir()
                fill(path.with_suffix(".files"))
            _write(path, {"kind": kind, "data": data})
        except OSError as error:
            raise TrackingError(f"{path}: the outbox cannot be written: {error.strerror}") from None
        with self._changed:
            self._numbers.append(number)

    def first(self) -> Operation | None:
        """The oldest operation, joined with those behind it that fit into the same request."""
        with self._changed:
            ahead = list(islice(self._numbers, MAX_METRICS))
        if not ahead:
            return None
        operations = (self._read(number) for number in ahead)
        first = next(operations)
        return _joined(first, operations) if first.kind == "batch" else first

    def single(self) -> Operation:
        """The oldest operation alone."""
        return self._read(self._numbers[0])

    def remove(self, operation: Operation) -> None:
        for number in operation.numbers:
            self._path(number).unlink()
            shutil.rmtree(self._path(number).with_suffix(".files"), ignore_errors=True)
            with self._changed:
                self._numbers.remove(number)

    def refuse(self, operation: Operation, reason: str) -> None:
        """Put an operation aside, so that those behind it can be sent."""
        (self.folder / "refused").mkdir(exist_ok=True)
        for number in operation.numbers:
            path = self._path(number)
            _write(path, {**json.loads(path.read_bytes()), "refused": reason})
            if path.with_suffix(".files").exists():
                path.with_suffix(".files").rename(self.folder / "refused" / f"{path.stem}.files")
            path.rename(self.folder / "refused" / path.name)
            with self._changed:
                self._numbers.remove(number)

    def close(self) -> None:
        """Let go of the folder, and remove it where nothing is left in it."""
        if not self._numbers and not (self.folder / "refused").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _acquire(self) -> int:
        """An open and locked file, whose lock ends with the process at the latest."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another process may have removed the folder between the two lines above.
                if os.path.samestat(os.fstat(lock), (self.folder / "lock").stat()):
                    return lock
            except BlockingIOError:
                os.close(lock)
                raise Busy(f"MLflow run {self.run_id} is being written by another process: wait for it") from None
            except FileNotFoundError:
                pass
            os.close(lock)

    def _target(self, uri: str | None) -> str:
        path = self.folder / "target.json"
        if uri is None:
            if not path.exists():
                raise TrackingError(f"{path}: missing, so it is unknown where to send: give the tracking URI")
            return str(json.loads(path.read_bytes())["uri"])
        _write(path, {"uri": uri})
        return uri

    def _sweep(self) -> None:
        """Remove what a killed process had begun to append."""
        for path in [*self.folder.glob("*.tmp"), *self.folder.glob("[0-9]*.files")]:
            if path.suffix == ".tmp":
                path.unlink()
            elif not path.with_suffix(".json").exists():
                shutil.rmtree(path)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.json"

    def _read(self, number: int) -> Operation:
        record = json.loads(self._path(number).read_bytes())
        files = self._path(number).with_suffix(".files")
        return Operation(record["kind"], record["data"], files if files.exists() else None, (number,))


def _joined(first: Operation, others: Iterator[Operation]) -> Operation:
    metrics, params, tags = list(first.data["metrics"]), dict(first.data["params"]), dict(first.data["tags"])
    numbers, size = list(first.numbers), len(str(first.data))
    for other in others:
        size += len(str(other.data))
        if other.kind != "batch" or size > MAX_BYTES:
            break
        more = [len(metrics) + len(other.data["metrics"]), len(params | other.data["params"])]
        if more[0] > MAX_METRICS or max(more[1], len(tags | other.data["tags"])) > MAX_PARAMS_OR_TAGS:
            break
        metrics += other.data["metrics"]
        params |= other.data["params"]
        tags |= other.data["tags"]
        numbers += other.numbers
    return Operation("batch", {"metrics": metrics, "params": params, "tags": tags}, None, tuple(numbers))


def _write(path: Path, record: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record))
    temporary.replace(path)
