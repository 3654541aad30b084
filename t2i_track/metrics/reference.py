"""What a run's pictures are measured against: pictures, or the statistics of pictures."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from t2i_track.errors import MetricError
from t2i_track.metrics import statistics_file
from t2i_track.metrics.cache import file_sha256, files_sha256
from t2i_track.metrics.inputs import ImageItem, file_key
from t2i_track.metrics.protocol import digest
from t2i_track.metrics.rows import Matrix, Vector

SHAPES_NUM = 2048
"""Pictures of the embedded reference set."""


ARRAYS = (".npy", ".pt", ".pth", ".pkl", ".pickle", ".mat", ".h5", ".hdf5", ".safetensors")
"""Endings of files of features and statistics that are not read."""


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
    said: str = field(default="", compare=False)
    """Of what the user named: how many pictures are used of it, and what is left out, why."""
    root: Path | None = field(default=None, compare=False)
    """The folder that was named."""

    def without(self, unreadable: Container[ImageItem]) -> Reference:
        """The same without some pictures."""
        kept = _of(self.label, [item for item in self.items if item not in unreadable])
        return replace(kept, said=self.said, root=self.root)

    def require_dimension(self, dimension: int | None) -> None:
        """Refuse statistics of other features than those that are compared, before any of these is made.

        ``dimension``: of the images' features; None where it is not known yet.

        Raises:
            MetricError: it is another.
        """
        if self.statistics is not None and dimension is not None and len(self.statistics[0]) != dimension:
            raise MetricError(
                f"reference {self.label!r}: its features have {len(self.statistics[0])} dimensions and the images'"
                f" {dimension}: give the --extractor that its statistics were made with, or name statistics by this one"
            )

    def name_of(self, item: ImageItem) -> str:
        """A picture's path as the user finds it: pictures of several folders may have one name."""
        inside = self.root is not None and item.path.is_relative_to(self.root)
        return str(item.path.relative_to(self.root)) if inside and self.root else str(item.path)


def open_reference(spec: str | Path | Sequence[ImageItem], cache_dir: Path, *, label: str | None = None) -> Reference:
    """Open a reference set.

    Args:
        spec: a folder of pictures (its own and those of the folders in it, see ``folder.look_through``); a manifest
            with image paths; an ``.npz`` with ``mu`` and ``sigma`` (and ``n``); the word ``shapes``; or the
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
        return _folder(path, label, cache_dir)
    if not path.is_file():
        raise MetricError(f"no reference {str(spec)!r}; name a folder, a manifest, an .npz, a run, or 'shapes'")
    if path.suffix.lower() == ".npz":
        mu, sigma, number = statistics_file.read(path, label)
        return Reference(label, file_sha256(path, cache_dir), number, statistics=(mu, sigma))
    if path.suffix.lower() in ARRAYS:
        raise MetricError(
            f"reference {label!r} ends in {path.suffix}: of arrays a reference is an .npz with mu and sigma, as"
            " numpy.savez(file, mu=features.mean(0), sigma=numpy.cov(features.T)) writes one; or name a folder of"
            " pictures"
        )
    return _manifest(path, label, cache_dir)


def _folder(path: Path, label: str, cache_dir: Path) -> Reference:
    from t2i_track.metrics.folder import look_through

    found = look_through(path)
    if not found.pictures:
        raise MetricError(f"reference {label!r} has no pictures: {found.said()}; name another")
    items = _files(found.pictures, cache_dir)
    equal = len(items) - len({item.sha256 for item in items})
    said = found.said() + (f"; {equal} of the pictures are equal to another" if equal else "")
    return replace(_of(label, items), said=said, root=path)


def _of(label: str, items: list[ImageItem]) -> Reference:
    if not items:
        raise MetricError(f"reference {label!r} has no pictures that can be read; name another")
    return Reference(label, digest([item.sha256 for item in items]), len(items), tuple(items))


def _files(paths: Sequence[Path], cache_dir: Path) -> list[ImageItem]:
    from t2i_track.pictures import DECODING

    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise MetricError(
            f"{len(missing)} reference pictures are missing, the first is {missing[0]}; check their folder"
        )
    keys = files_sha256(paths, cache_dir, file_key, f"pictures {DECODING}")
    return [ImageItem(path, key) for path, key in zip(paths, keys, strict=True)]


def _manifest(path: Path, label: str, cache_dir: Path) -> Reference:
    """The manifest's pictures, each once: COCO has five captions to a photograph."""
    from t2i_track.pictures import ENDINGS
    from t2i_track.prompts import manifest
    from t2i_track.prompts.formats import FILE_NAME, IMAGE_PATH

    if path.suffix.lower() in ENDINGS:
        raise MetricError(f"reference {label!r} is one picture; name its folder")
    entries = manifest.load(path).entries
    names = [entry.image_path for entry in entries if entry.image_path]
    if not names:
        raise MetricError(
            f"reference {label!r} names no pictures: it has no column {IMAGE_PATH} (or {FILE_NAME}) with the path of"
            " each row's picture; add it, or name the folder of the pictures"
        )
    pictures = [_as_it_is_here(Path(name)) for name in dict.fromkeys(names)]
    lost = [
        f"{count} {why}"
        for count, why in ((len(entries) - len(names), "name none"), (len(names) - len(pictures), "name one again"))
        if count
    ]
    of = f" ({', '.join(lost)})" if lost else ""
    said = f"{len(pictures)} pictures used of {len(entries)} rows{of}"
    return replace(_of(label, _files(pictures, cache_dir)), said=said, root=path.parent)


def _as_it_is_here(path: Path) -> Path:
    """A path as Windows writes it is found elsewhere too, unless a file has that very name."""
    if "\\" in path.name and not path.exists() and (other := Path(str(path).replace("\\", "/"))).exists():
        return other
    return path


def _drawn_shapes(cache_dir: Path) -> list[Path]:
    """The embedded reference set, drawn once."""
    from t2i_track import shapes
    from t2i_track.metrics.folder import look_through

    folder = cache_dir / "references" / f"shapes-{SHAPES_NUM}"
    done = folder / "annotations" / "captions.json"  # written last
    if not done.is_file():
        shapes.write(folder, SHAPES_NUM, splits=("reference",))
    return look_through(folder / "images").pictures
