"""What a run's pictures are measured against: pictures, or the statistics of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2i_track.errors import MetricError
from t2i_track.metrics.cache import file_sha256, files_sha256
from t2i_track.metrics.inputs import SUFFIXES, ImageItem
from t2i_track.metrics.protocol import digest
from t2i_track.metrics.rows import Matrix, Vector

SHAPES_NUM = 2048
"""Pictures of the embedded reference set."""


@dataclass(frozen=True)
class Reference:
    label: str
    sha256: str
    """Over the hashes of its pictures in their order, or of the file of statistics."""
    n: int | None
    """None where a file of statistics does not say."""
    items: tuple[ImageItem, ...] = ()
    statistics: tuple[Vector, Matrix] | None = None
    """mu (d,) and sigma (d, d), where there are no pictures."""

    def without(self, unreadable: set[str]) -> Reference:
        """The same without some pictures, by their sha256."""
        return _of(self.label, [item for item in self.items if item.sha256 not in unreadable])


def open_reference(spec: str | Path | Sequence[ImageItem], cache_dir: Path, *, label: str | None = None) -> Reference:
    """Open a reference set.

    Args:
        spec: a folder of pictures (its own files in order of name; where it has none, those of its subfolders); a
            manifest with image paths; an ``.npz`` with ``mu`` and ``sigma`` (and ``n``); the word ``shapes``; or the
            images of another run.
        cache_dir: where hashes are kept and the embedded set is drawn.
        label: what the user calls it; default ``spec``.

    Raises:
        MetricError: nothing there, or not of these kinds.
    """
    if not isinstance(spec, str | Path):
        return _of(label or "run", list(spec))
    label = label or str(spec)
    if spec == "shapes":
        return _of(label, _files(_drawn_shapes(cache_dir), cache_dir))
    path = Path(spec).expanduser()
    if path.is_dir():
        return _of(label, _files(_pictures(path), cache_dir))
    if not path.is_file():
        raise MetricError(f"no reference {str(spec)!r}; name a folder, a manifest, an .npz, a run, or 'shapes'")
    if path.suffix == ".npz":
        return _statistics(path, label, cache_dir)
    return _of(label, _files(_manifest(path), cache_dir))


def _of(label: str, items: list[ImageItem]) -> Reference:
    if not items:
        raise MetricError(f"reference {label!r} has no pictures ({', '.join(SUFFIXES)}); name another")
    return Reference(label, digest([item.sha256 for item in items]), len(items), tuple(items))


def _files(paths: Sequence[Path], cache_dir: Path) -> list[ImageItem]:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise MetricError(
            f"{len(missing)} reference pictures are missing, the first is {missing[0]}; check their folder"
        )
    return [ImageItem(path, sha256) for path, sha256 in zip(paths, files_sha256(paths, cache_dir), strict=True)]


def _pictures(folder: Path) -> list[Path]:
    own = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    return sorted(own or (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES))


def _manifest(path: Path) -> list[Path]:
    """The manifest's pictures, each once: COCO has five captions to a photograph."""
    from t2i_track.prompts import manifest

    return [Path(name) for name in dict.fromkeys(entry.image_path for entry in manifest.load(path).entries) if name]


def _drawn_shapes(cache_dir: Path) -> list[Path]:
    """The embedded reference set, drawn once."""
    from t2i_track import shapes

    folder = cache_dir / "references" / f"shapes-{SHAPES_NUM}"
    done = folder / "annotations" / "captions.json"  # written last
    if not done.is_file():
        shapes.write(folder, SHAPES_NUM, splits=("reference",))
    return _pictures(folder / "images")


def _statistics(path: Path, label: str, cache_dir: Path) -> Reference:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            mu, sigma = (np.asarray(arrays[name], dtype=np.float64) for name in ("mu", "sigma"))
            number = int(arrays["n"]) if "n" in arrays else None
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise MetricError(f"reference {label!r} is not an .npz with mu and sigma ({error}); name another") from error
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise MetricError(f"reference {label!r}: mu of shape {mu.shape} and sigma of shape {sigma.shape} do not fit")
    return Reference(label, file_sha256(path, cache_dir), number, statistics=(mu, sigma))
