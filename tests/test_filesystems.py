"""Homes on network file systems: recognised from the kernel's list, and used without a write-ahead log."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from t2i_track import filesystems
from t2i_track.db import sqlite
from t2i_track.filesystems import filesystem, shared, shared_filesystem
from t2i_track.runs import doctor
from t2i_track.workspace import Workspace

LOGIN_NODE = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
31 27 0:27 / /scratch rw,nosuid,nodev shared:13 - tmpfs tmpfs rw
88 27 0:52 / /home rw,relatime shared:40 - nfs4 filer:/home rw,vers=4.2,rsize=1048576,hard,proto=tcp
90 27 0:60 / /lustre/scratch rw,relatime shared:44 - lustre 10.1.1.1@o2ib:10.1.1.2@o2ib:/scratch rw,flock
91 27 0:61 / /gpfs/fs1 rw,relatime - gpfs fs1 rw
92 88 0:70 / /home/me/far\040away rw,nosuid - fuse.sshfs me@host:/data rw,user_id=1000
93 88 0:71 / /home/me/disk rw - fuseblk /dev/sdb1 rw
94 27 0:72 / /mnt/team rw - cifs //server/team rw,vers=3.1.1
95 27 8:1 / /mnt/over rw - nfs filer:/old rw
96 95 8:1 / /mnt/over rw - xfs /dev/sdc1 rw
97 27 0:73 /sub /srv/bound rw master:1 propagate_from:2 - ext4 /dev/sdd1 rw
98 27 0:74 / /srv/a\134b\011c rw - beegfs beegfs_nodev rw
99 27 0:75 / /containers rw - fuse.fuse-overlayfs fuse-overlayfs rw
a line that is none
"""


@pytest.mark.parametrize(
    ("folder", "kind", "network"),
    [
        ("/", "ext4", False),
        ("/scratch/x/y", "tmpfs", False),
        ("/homework/me", "ext4", False),
        ("/home", "nfs4", True),
        ("/home/me/t2i-data", "nfs4", True),
        ("/home/me/far away/t2i-data", "fuse.sshfs", True),
        ("/home/me/far", "nfs4", True),
        ("/home/me/disk/t2i-data", "fuseblk", False),
        ("/lustre/scratch/me", "lustre", True),
        ("/gpfs/fs1", "gpfs", True),
        ("/mnt/team/x", "cifs", True),
        ("/mnt/over/x", "xfs", False),
        ("/srv/bound/x", "ext4", False),
        ("/srv/a\\b\tc/x", "beegfs", True),
        ("/containers/x", "fuse.fuse-overlayfs", False),
    ],
)
def test_the_nearest_mount_counts(folder: str, kind: str, network: bool) -> None:
    assert filesystem(Path(folder), LOGIN_NODE) == kind
    assert shared(kind) is network


def test_nothing_known_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filesystem(Path("/x"), "") == ""
    assert not shared("")
    monkeypatch.setattr(filesystems, "MOUNTS", tmp_path / "none")
    assert shared_filesystem(tmp_path) is None


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the kernel says is on NFS."""
    mounts = tmp_path / "mountinfo"
    folder = tmp_path / "net"
    folder.mkdir()
    mounts.write_text(f"1 1 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / {folder} rw - nfs4 filer:/x rw\n")
    monkeypatch.setattr(filesystems, "MOUNTS", mounts)
    return folder


def use(workspace: Workspace) -> int:
    with workspace.begin() as session:
        session.execute(text("INSERT INTO prompts (text, sha256) SELECT 'a', count(*) FROM prompts"))
    with workspace.reading() as session:
        return int(session.scalar(text("SELECT count(*) FROM prompts")) or 0)


def mode(home: Path) -> str:
    with closing(sqlite3.connect(home / "t2i.db")) as opened:
        return str(opened.execute("PRAGMA journal_mode").fetchone()[0])


@pytest.mark.sqlite_only("the file's journal")
def test_there_is_no_write_ahead_log_on_a_network(network: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        workspace = Workspace(network / "home")
        assert [use(workspace), use(workspace)] == [1, 2]
        workspace.engine.dispose()
    assert [path.name for path in (network / "home").iterdir()] == ["t2i.db"]
    assert mode(network / "home") == "delete"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "is on a network file system (nfs4): only one command at a time may write it" in said[0]


@pytest.mark.sqlite_only("the file's journal")
def test_a_home_that_was_copied_there_leaves_its_log(network: Path, tmp_path: Path) -> None:
    local = Workspace(tmp_path / "local")
    assert use(local) == 1
    sqlite.close_all()
    assert mode(local.home) == "wal"
    copied = Workspace(local.home.rename(network / "home"))
    assert use(copied) == 2
    copied.engine.dispose()
    assert mode(copied.home) == "delete"


def test_doctor_says_so(network: Path, fresh_mlflow_store: Path) -> None:
    (network / "mlflow.db").write_bytes(fresh_mlflow_store.read_bytes())
    found = {one.check: one for one in doctor.check(Workspace(network / "home"), f"sqlite:///{network / 'mlflow.db'}")}
    for check in ("home", "mlflow"):
        assert found[check].status == "note"
        assert "on a network file system (nfs4): let one command write at a time" in found[check].detail
