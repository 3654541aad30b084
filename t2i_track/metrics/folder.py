"""A folder of pictures as a reference: which of its files are meant, and what is said of the others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from t2i_track.errors import MetricError

NAMED = 3
"""Files named for each reason; the rest are counted."""

_OTHERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini"}
"""What systems leave in any folder, in small letters; what begins with a dot is left out anyway."""
_COPY = re.compile(r"(?P<of>.+?)(?: copy(?: \d+)?| - copy(?: \(\d+\))?| \(copy(?: \d+)?\)|-copy\d+)", re.IGNORECASE)
"""A picture's stem as macOS, Windows, Linux and Jupyter name a copy of ``of``."""

HIDDEN = "hidden"
SYSTEM = "of the system"
COPIES = "editors' copies"
BROKEN = "broken links"
SPECIAL = "no files"
OTHER_ENDINGS = "not pictures by their ending"
TWICE = "in folders that links show again"


@dataclass
class Folder:
    """The pictures of a folder and of the folders in it, in order of their paths."""

    root: Path
    pictures: list[Path] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)
    """Reason -> files."""

    def said(self) -> str:
        """``9 pictures used (3 beside the folders a, b), 4 files left out (3 hidden: …; 1 broken links: …)``."""
        own = sum(path.parent == self.root for path in self.pictures)
        below = sorted({path.relative_to(self.root).parts[0] for path in self.pictures if path.parent != self.root})
        beside = f" ({own} beside the {_counted(len(below), 'folder')} {_named(below)})" if own and below else ""
        return f"{_counted(len(self.pictures), 'picture')} used{beside}, {self.said_left_out()}"

    def said_left_out(self) -> str:
        """``4 files left out (3 hidden: …; 1 broken links: …)``."""
        lost = sum(map(len, self.left_out.values()))
        reasons = [
            f"{len(paths)} {reason}: {_named([str(path.relative_to(self.root)) for path in paths])}"
            for reason, paths in self.left_out.items()
        ]
        why = f" ({'; '.join(reasons)})" if reasons else ""
        return f"{_counted(lost, 'file')} left out{why}"


def look_through(root: Path) -> Folder:
    """All pictures below a folder, whether it holds them itself, has a folder for each class, or both.

    Left out is what nobody put there as a picture: hidden files and folders, what systems leave, and copies that an
    editor made of a picture beside them. Folders behind links are gone through, each once.

    Raises:
        MetricError: a folder cannot be read.
    """
    found = Folder(root)
    for path, reason in _files(root, None, set()):
        if reason is None:
            found.pictures.append(path)
        else:
            found.left_out.setdefault(reason, []).append(path)
    found.pictures.sort()
    return found


def _files(folder: Path, reason: str | None, seen: set[tuple[int, int]]) -> Iterator[tuple[Path, str | None]]:
    """Every file below, with the reason to leave it out; ``reason`` where there is one for the whole folder."""
    try:
        place = folder.stat()
        again = (place.st_dev, place.st_ino) in seen
        seen.add((place.st_dev, place.st_ino))
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise MetricError(f"the folder {folder} cannot be read: {error.strerror}") from None
    if again:
        yield folder, reason or TWICE
        return
    names = {entry.name for entry in entries}
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir():
            yield from _files(path, reason or _of_name(entry.name), seen)
        elif not entry.is_file():
            yield path, reason or _of_name(entry.name) or (BROKEN if entry.is_symlink() else SPECIAL)
        else:
            yield path, reason or _of_name(entry.name) or _of_file(path, names)


def _of_name(name: str) -> str | None:
    if name.startswith("."):
        return HIDDEN
    return SYSTEM if name.lower() in _OTHERS else None


def _of_file(path: Path, names: set[str]) -> str | None:
    copy = _COPY.fullmatch(path.stem)
    if path.name.endswith("~") or (copy is not None and copy["of"] + path.suffix in names):
        return COPIES
    from t2i_track.pictures import ENDINGS

    return None if path.suffix.lower() in ENDINGS else OTHER_ENDINGS


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
