"""What lies in a folder that is imported: each picture with what is said of it, or the reason why it is left out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Image, Run
from t2i_track.errors import TransferError
from t2i_track.importing import beside, tools
from t2i_track.importing.found import Found, Unreadable
from t2i_track.metrics.folder import OTHER_ENDINGS, Folder
from t2i_track.progress import progress
from t2i_track.settings import MOST_PIXELS, UNKNOWN
from t2i_track.workspace import Workspace

DECODED = "cannot be decoded"
EQUAL = "equal to another"


@dataclass(frozen=True)
class Item:
    """A picture that will be an image."""

    path: Path
    sha256: str
    pixels_sha256: str
    width: int
    height: int
    found: Found


@dataclass
class Look:
    """What a look at a folder came to."""

    folder: Folder
    items: list[Item] = field(default_factory=list)
    known: int = 0
    trashed: int = 0
    """Of the known, those of runs in the trash."""
    used: set[Path] = field(default_factory=set)
    """Files beside the pictures that speak of them."""
    unread: list[str] = field(default_factory=list)
    """Pictures whose own words cannot be read, with the reason."""

    def leave_out(self, path: Path, reason: str) -> None:
        self.folder.left_out.setdefault(reason, []).append(path)


def without_home(listed: Folder, workspace: Workspace) -> Folder:
    """Without what is in the home folder, where that lies in the folder: runs and caches are no one's outputs."""
    home = workspace.home.absolute()
    if not home.is_relative_to(listed.root) or home == listed.root:
        return listed
    left = {why: [path for path in paths if not path.is_relative_to(home)] for why, paths in listed.left_out.items()}
    pictures = [path for path in listed.pictures if not path.is_relative_to(home)]
    return Folder(listed.root, pictures, {why: paths for why, paths in left.items() if paths})


def looked(workspace: Workspace, listed: Folder, table: Path | None, fmt: str | None) -> Look:
    """Every picture of the folder, hashed, read and decoded; the database is only asked what is known."""
    look = Look(listed)
    told = _told_by_tables(look, table)
    hashes = _hashed(look)
    with workspace.begin() as session:  # which makes a fresh database
        known, seen = (
            _known(session, hashes, select(Image.sha256)),
            _known(session, hashes, select(Image.sha256).join(Run)),
        )
    look.known, look.trashed = len(known), len(known - seen)
    look.used |= {place for digest in known for place in beside.places(hashes[digest]) if place.is_file()}
    new = {digest: path for digest, path in hashes.items() if digest not in known}
    with progress(f"pictures of {listed.root.name}", len(new)) as show:
        for done, (digest, path) in enumerate(new.items(), 1):
            item = _item(look, path, digest, told.get(path), fmt)
            if item is not None:
                look.items.append(item)
            show(done)
    left = {why: [path for path in paths if path not in look.used] for why, paths in listed.left_out.items()}
    listed.left_out = {why: paths for why, paths in left.items() if paths}
    return look


def _hashed(look: Look) -> dict[str, Path]:
    """The files by their hashes; of equal ones the first."""
    from t2i_track.metrics.cache import sha256

    hashes: dict[str, Path] = {}
    for path in look.folder.pictures:
        try:
            digest = sha256(path)
        except OSError as error:
            look.leave_out(path, f"cannot be read ({error.strerror})")
            continue
        if digest in hashes:
            look.leave_out(path, EQUAL)
        hashes.setdefault(digest, path)
    return hashes


def _known(session: Session, hashes: Iterable[str], images: Select[str]) -> set[str]:
    """Of the hashes of files, those of such images; a join with their runs leaves out those in the trash."""
    every, found = list(hashes), set[str]()
    for start in range(0, len(every), lineage.CHUNK):
        some = every[start : start + lineage.CHUNK]
        found |= set(session.scalars(images.where(Image.sha256.in_(some))))
    return found


def _told_by_tables(look: Look, table: Path | None) -> dict[Path, Found]:
    """What tables say of pictures: each of those in its folder and below, one from elsewhere of all."""
    told: dict[Path, Found] = {}
    try:
        for one in beside.tables(look.folder.left_out.get(OTHER_ENDINGS, [])):
            mine = [path for path in look.folder.pictures if path.is_relative_to(one.path.parent)]
            if found := one.found(mine):
                told |= found
                look.used.add(one.path)
        if table is not None:
            given = next(beside.tables([table]), None) if table.is_file() else None
            found = given.found(look.folder.pictures) if given is not None else {}
            if not found:
                raise TransferError(
                    f"{table} speaks of no picture of {look.folder.root}: it wants a column caption, prompt or text,"
                    " and pictures that are named by its file_name, image_id, caption_id or the numbers of its rows"
                )
            told |= found
    except (Unreadable, OSError) as error:
        raise TransferError(f"{error}: mend the table, or move it elsewhere") from None
    return told


def _item(look: Look, path: Path, digest: str, told: Found | None, fmt: str | None) -> Item | None:
    """The picture, or None where it was left out with the reason."""
    import numpy as np

    from t2i_track.images.png import pixels_sha256
    from t2i_track.pictures import UnreadablePicture, decode, reason_of, size_of

    found = told if told is not None and told.prompt else _own_words(look, path) or told or Found(origin=UNKNOWN)
    if fmt is not None and found.origin != fmt:
        look.leave_out(path, f"not of {fmt}")
        return None
    try:
        with _no_bomb_warning():
            width, height = size_of(path)
            if width * height > MOST_PIXELS:
                raise UnreadablePicture(f"{width} x {height} pixels are more than {MOST_PIXELS}")
            pixels = np.asarray(decode(path))
    except Exception as error:  # noqa: BLE001 - a stranger's file, in Pillow's readers
        reason = str(error) if isinstance(error, UnreadablePicture) else reason_of(path, error)
        look.leave_out(path, f"{DECODED} ({reason[:80]})")
        return None
    return Item(path, digest, pixels_sha256(pixels), pixels.shape[1], pixels.shape[0], found)


@contextlib.contextmanager
def _no_bomb_warning() -> Iterator[None]:
    """Sizes are looked at here: Pillow need not warn of them too."""
    from PIL.Image import DecompressionBombWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DecompressionBombWarning)
        yield


def _own_words(look: Look, path: Path) -> Found | None:
    """What is said in the picture, or by a file of its own beside it."""
    try:
        found = tools.read(path)
        if found is not None:
            return found
        told = beside.of_picture(path)
        if told is not None:
            look.used.add(told[1])
            return told[0]
    except (Unreadable, OSError) as error:
        look.unread.append(f"{path.name} ({error})")
    return None
