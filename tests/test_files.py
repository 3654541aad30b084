from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from filelock import Timeout

from t2i_track.files import alone, remove_left, replacing, write_atomically


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
