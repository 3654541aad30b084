"""COCO's caption annotations to a manifest: a seeded draw of captions whose photographs are there."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from t2i_track.errors import ManifestError, SettingsError
from t2i_track.files import replacing
from t2i_track.filesystems import LFS_POINTER
from t2i_track.jsontext import KeyTwice
from t2i_track.prompts import json_arrays
from t2i_track.prompts.text import DAMAGED, normalise, storable
from t2i_track.texts import unstorable

COLUMNS = ("image_id", "caption_id", "image_path", "caption")
Ids = npt.NDArray[np.int64]
BLOCK = 2000
"""Images whose captions are put into order at a time."""
_PLAIN = re.compile(r"\w[\w.-]*")
"""A file name that needs no second look, as all of COCO's."""


@dataclass(frozen=True)
class Summary:
    """What was drawn. The draw ends at ``k`` captions, so ``missing`` and ``short`` count what it met until then."""

    kept: int
    images: int
    """Different images among the kept captions."""
    captions: int
    """In the annotations file."""
    missing: int
    """Images whose file is not there; left out, or kept with ``allow_missing``."""
    short: int
    """Captions with fewer words than asked for."""
    out_csv: Path


def sample(
    annotations: Path,
    images_root: Path,
    out_csv: Path,
    k: int = 1000,
    min_len: int = 5,
    seed: int = 42,
    captions_per_image: Literal["one", "all"] = "one",
    allow_missing: bool = False,
) -> Summary:
    """Draw captions and write them to a CSV file with the columns ``image_id,caption_id,image_path,caption``.

    The draw is in the order of a hash of the seed and the ids. It depends neither on the order of the file nor on
    ``k``: a larger draw begins with the smaller one. White space is normalised as in all manifests.

    Args:
        annotations: ``captions_{train,val}{2014,2017}.json`` as COCO ships it, or packed by gzip (.json.gz).
        images_root: folder of the images; paths under the CSV's folder are written relative to it, others absolute.
        out_csv: written atomically; a file that is there is replaced.
        k: captions to draw, 1 or more; all where there are fewer.
        min_len: fewest words of a caption, 1 or more.
        seed: 0 or more.
        captions_per_image: ``one`` draws images, and for each the first of its captions in the draw's order that is
            long enough; ``all`` draws captions, whichever image they are of.
        allow_missing: keep captions of images whose file is not there.

    Raises:
        ManifestError: the annotations are not such a file, an image's name leads out of ``images_root``, nothing is
            left, or the CSV cannot be written.
        SettingsError: a number is out of range.
    """
    for name, value, least in (("k", k, 1), ("min-len", min_len, 1), ("seed", seed, 0)):
        if value < least:
            raise SettingsError(f"--{name} {value}: must be {least} or more")
    captions = _read(annotations)
    if not allow_missing and not images_root.is_dir():
        raise ManifestError(f"{images_root}: there is no such folder: check --images-root, or give --allow-missing")
    draw = _Draw(captions, _Images(captions, images_root), min_len, allow_missing)
    rows = draw.rows(_order(captions, seed, by_image=captions_per_image == "one"), k, captions_per_image)
    if not rows:
        raise ManifestError(f"{annotations}: {draw.why_empty(images_root)}")
    folder = str(out_csv.absolute().parent) + os.sep
    _write(out_csv, annotations, [draw.row(n, path, folder) for n, path in rows])
    images = {int(captions.image_ids[n]) for n, _ in rows}
    return Summary(len(rows), len(images), len(captions.texts), len(draw.missing), draw.short, out_csv)


@dataclass
class _Captions:
    """The columns of the annotations, and each image's file name."""

    path: Path
    ids: Ids
    image_ids: Ids
    texts: list[str]
    file_names: dict[int, str]


@dataclass
class _Table:
    """Columns that grow by a piece of the file at a time."""

    path: Path
    what: str
    """One row, for messages."""
    id_keys: tuple[str, ...]
    text_key: str
    ids: list[list[Ids]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    there: bool = False

    def add(self, records: object) -> None:
        self.there = True
        if not isinstance(records, list):
            raise ManifestError(f"{self.path}: its {self.what}s must be a list, not {records!r:.60}")
        try:
            numbers = [[record[key] for record in records] for key in self.id_keys]
            texts = [record[self.text_key] for record in records]
        except (KeyError, TypeError, IndexError):
            raise self._bad(records) from None
        # A bool is an int and would pass as an id.
        if {*map(type, texts)} <= {str} and all({*map(type, column)} <= {int} for column in numbers):
            try:
                self.ids.append([np.array(column, dtype=np.int64) for column in numbers])
            except OverflowError:
                raise self._bad(records) from None
            self.texts += texts
        elif records:
            raise self._bad(records)

    def column(self, index: int) -> Ids:
        return np.concatenate([np.empty(0, np.int64), *(piece[index] for piece in self.ids)])

    def _bad(self, records: list[Any]) -> ManifestError:
        """What is wrong with the first wrong record."""
        for record in records:
            if not isinstance(record, dict):
                return ManifestError(f"{self.path}: each {self.what} must be an object, not {record!r:.60}")
            for key in (*self.id_keys, self.text_key):
                kind: type = str if key == self.text_key else int
                words = "text" if kind is str else "a whole number below 2**63"
                where = f"{self.path}: {self.what} {record.get('id', '')!r}"
                if key not in record:
                    return ManifestError(f"{where} has no {key!r}: is it one of COCO's captions_*.json files?")
                if type(record[key]) is not kind or (kind is int and not -(2**63) <= record[key] < 2**63):
                    return ManifestError(f"{where}: {key!r} must be {words}, not {record[key]!r:.60}")
        raise AssertionError("a record that was refused has nothing wrong")


def _read(path: Path) -> _Captions:
    images = _Table(path, "image", ("id",), "file_name")
    captions = _Table(path, "annotation", ("id", "image_id"), "caption")
    tables = {"images": images, "annotations": captions}
    try:
        read = {name: (*table.id_keys, table.text_key) for name, table in tables.items()}
        for name, records in json_arrays.read(path, read):
            tables[name].add(records)
    except FileNotFoundError:
        raise ManifestError(f"{path}: there are no such annotations: check the path") from None
    except DAMAGED:
        raise ManifestError(f"{path}: not packed by gzip, or cut off: is the download complete?") from None
    except OSError as error:
        raise ManifestError(f"{path}: the annotations cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ManifestError(f"{path}: not COCO's JSON, it is nested too deeply") from None
    except KeyTwice as error:
        raise ManifestError(f"{path}: {error}: keep one of them") from None
    except ValueError as error:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise ManifestError(f"{path}: only a pointer of Git LFS: run `git lfs pull`") from None
        raise ManifestError(f"{path}: not COCO's JSON ({error}): is the download complete?") from None
    for name, table in tables.items():
        if not table.there:
            raise ManifestError(f"{path}: has no {name!r}: is it one of COCO's captions_*.json files?")
        _unique(table)
    names = dict(zip(images.column(0).tolist(), images.texts, strict=True))
    _listed(path, captions.column(1), images.column(0))
    return _Captions(path, captions.column(0), captions.column(1), captions.texts, names)


def _unique(table: _Table) -> None:
    ids = np.sort(table.column(0))
    again = ids[1:][ids[1:] == ids[:-1]]
    if again.size:
        raise ManifestError(f"{table.path}: the {table.what} id {again[0]} is there more than once: ids must be unique")


def _listed(path: Path, wanted: Ids, ids: Ids) -> None:
    """Every caption's image is in the list of images."""
    lost = wanted[~np.isin(wanted, ids)]
    if lost.size:
        raise ManifestError(f"{path}: a caption is of the image {lost[0]}, which is not among the file's images")


def _order(captions: _Captions, seed: int, by_image: bool) -> Iterator[int]:
    """Indices of the captions in the order of the draw; ``by_image`` keeps those of an image together."""
    of_caption = _hash(captions.ids, seed, 0)
    if not by_image:
        yield from np.argsort(of_caption).tolist()
        return
    of_image = _hash(captions.image_ids, seed, 1)
    order = np.argsort(of_image)
    # Captions within their images are sorted a block of images at a time: few draws come to the end.
    firsts = np.flatnonzero(np.diff(of_image[order], prepend=of_image[order[:1]] ^ np.uint64(1)))
    for start, end in pairwise([*firsts[::BLOCK], order.size]):
        block = order[start:end]
        yield from block[np.lexsort([of_caption[block], of_image[block]])].tolist()


def _hash(ids: Ids, seed: int, domain: int) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014) from a start given by seed and domain: different ids never collide."""
    start = np.random.SeedSequence([seed, domain]).generate_state(1, np.uint64)
    z = (ids.astype(np.uint64) + start) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class _Images:
    """Where each image is, never outside the folder."""

    def __init__(self, captions: _Captions, root: Path) -> None:
        self._annotations, self._inside = captions.path, root.resolve()
        self._root = str(self._inside if ".." in root.parts else root.absolute())
        self._names = captions.file_names
        self._found: dict[int, tuple[str, bool]] = {}
        for image, name in self._names.items():
            if not _PLAIN.fullmatch(name) and (reason := _leads_out(name)):
                raise self._refused(image, name, reason)

    def find(self, image: int) -> tuple[str, bool]:
        """The image's absolute path, and whether the file is there."""
        if image not in self._found:
            name = self._names[image]
            found = self._look(image, name)
            if not found[1] and "\\" in name:
                # As Windows writes it, unless a file has that very name.
                found = self._look(image, name.replace("\\", "/"))
            self._found[image] = found
        return self._found[image]

    def _look(self, image: int, name: str) -> tuple[str, bool]:
        path = os.path.join(self._root, name)  # noqa: PTH118 (pathlib takes ten times as long, for each image)
        try:
            kind = os.lstat(path).st_mode
        except (OSError, ValueError):
            return path, False
        if not (stat.S_ISREG(kind) and _PLAIN.fullmatch(name)) and not Path(path).resolve().is_relative_to(
            self._inside
        ):
            raise self._refused(image, name, "a link leads out of --images-root")
        return path, stat.S_ISREG(kind) or Path(path).is_file()

    def _refused(self, image: int, name: str, reason: str) -> ManifestError:
        return ManifestError(f"{self._annotations}: the file name {name!r} of image {image} is refused: {reason}")


def _leads_out(name: str) -> str | None:
    windows = PureWindowsPath(name)
    if unstorable(name) or not name.strip(". "):
        return "it is not a file name"
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root:
        return "it is absolute"
    return "it leads out of --images-root" if ".." in windows.parts else None


class _Draw:
    def __init__(self, captions: _Captions, images: _Images, min_len: int, allow_missing: bool) -> None:
        self._captions, self._images = captions, images
        self._min_len, self._allow_missing = min_len, allow_missing
        self.missing: set[int] = set()
        self.short = 0

    def rows(self, order: Iterator[int], k: int, captions_per_image: str) -> list[tuple[int, str]]:
        """The first ``k`` captions that may stay, with their images' paths."""
        rows: list[tuple[int, str]] = []
        taken: set[int] = set()
        image_ids, once = self._captions.image_ids, captions_per_image == "one"
        for n in order:
            if len(rows) == k:
                break
            image = int(image_ids[n])
            if image in taken or (image in self.missing and not self._allow_missing):
                continue
            if len(self._captions.texts[n].split()) < self._min_len:
                self.short += 1
                continue
            path, there = self._images.find(image)
            if not there:
                self.missing.add(image)
                if not self._allow_missing:
                    continue
            if once:
                taken.add(image)
            rows.append((n, path))
        return rows

    def row(self, n: int, path: str, folder: str) -> tuple[int, int, str, str]:
        shown = path.removeprefix(folder).replace(os.sep, "/")
        image, caption = int(self._captions.image_ids[n]), int(self._captions.ids[n])
        text = storable(f"{self._captions.path}: annotation {caption}", self._captions.texts[n])
        return image, caption, shown, normalise(text)

    def why_empty(self, root: Path) -> str:
        if self.missing:
            return f"none of its {len(self.missing)} images is in {root}: check --images-root, or give --allow-missing"
        if self.short:
            return f"no caption has {self._min_len} words: give a smaller --min-len"
        return "it has no captions"


def _write(out_csv: Path, annotations: Path, rows: list[tuple[int, int, str, str]]) -> None:
    if out_csv.exists() and out_csv.samefile(annotations):
        raise ManifestError(f"{out_csv}: would replace the annotations: give another --out-csv")
    try:
        with replacing(out_csv, parents=True) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)
            text.detach()
    except OSError as error:
        raise ManifestError(f"{out_csv}: cannot be written: {error.strerror}: give another --out-csv") from None
