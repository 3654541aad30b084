from __future__ import annotations

import fcntl
import glob
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from t2i_track.files import alone, remove_left, remove_temporaries, replacing, write_atomically


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"before")
    with replacing(path) as stream:
        stream.write(b"af")
        assert path.read_bytes() == b"before"
        stream.write(b"ter")
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    def stop() -> bytes:
        raise error

    with pytest.raises(error), replacing(tmp_path / "a") as stream:
        stream.write(b"half" + stop())
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_file_has_the_name_that_a_resume_removes(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.png"):
        assert [path.name[-4:] for path in tmp_path.glob("*.tmp")] == [".tmp"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_missing_folders_are_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "gone" / "a", b"")
    write_atomically(tmp_path / "new" / "folder" / "a", b"1", parents=True)
    assert (tmp_path / "new" / "folder" / "a").read_bytes() == b"1"


def test_the_lock_of_a_killed_process_is_removed_and_a_held_one_stays(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    remove_left(lock)
    assert not lock.exists()
    lock.touch()
    remove_left(lock)
    assert not lock.exists()
    with alone(lock):
        remove_left(lock)
        assert lock.exists()
        with pytest.raises(Timeout), alone(lock, timeout=0):
            pass
    assert not lock.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from t2i_track.files import replacing
with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(path: Path) -> Path:
    """What a writer leaves that is killed in the middle."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = path.parent.glob(f".{glob.escape(path.name)}.*.tmp")
    return left


@pytest.mark.parametrize("name", ["a.npy", "[a]*.json", "ü 猫.csv"])
def test_the_next_writer_removes_what_a_killed_one_left(name: str, tmp_path: Path) -> None:
    left, other = killed(tmp_path / name), killed(tmp_path / "other")
    write_atomically(tmp_path / name, b"whole", parents=True)
    assert not left.exists()
    assert other.exists()
    assert (tmp_path / name).read_bytes() == b"whole"


def test_a_writer_at_work_is_left_alone(tmp_path: Path) -> None:
    left = killed(tmp_path / "a")
    with replacing(tmp_path / "a") as stream:
        stream.write(b"first")
        remove_temporaries(tmp_path)
        assert not left.exists()
        write_atomically(tmp_path / "a", b"second", parents=True)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"first")]


def test_other_files_are_no_temporaries(tmp_path: Path) -> None:
    names = ["a.tmp", ".a", ".a.tmpx", "a", ".tmp"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / ".folder.00000000.tmp").mkdir()
    remove_temporaries(tmp_path)
    remove_temporaries(tmp_path / "nowhere")
    assert {path.name for path in tmp_path.iterdir()} == {*names, ".folder.00000000.tmp"}


def test_a_file_system_without_locks_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = killed(tmp_path / "a")

    def unknown(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unknown)
    write_atomically(tmp_path / "a", b"whole", parents=True)
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert left.exists()


def test_a_file_that_is_taken_before_it_is_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may remove it in the instant between its making and its lock, or hold it to do so."""
    lock, seen = fcntl.flock, []

    def late(stream: Any, kind: int) -> None:
        seen.append(stream.name)
        if len(seen) == 1:
            Path(stream.name).unlink()
        if len(seen) == 2:
            raise BlockingIOError
        lock(stream, kind)

    monkeypatch.setattr("fcntl.flock", late)
    write_atomically(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert len(seen) == 3
