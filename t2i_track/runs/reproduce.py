"""One image made again from its record, and compared with what it was. Reads only, but for the file asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i_track.environment import versions
from t2i_track.errors import ModelError, NotFound, SettingsError
from t2i_track.files import write_atomically
from t2i_track.images import png
from t2i_track.images.sampling import Job, PromptEncoder, refuse_ignored, sample
from t2i_track.notebook import Shown
from t2i_track.settings import Values
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.db.models import Image
    from t2i_track.images.loading import LoadedPipeline
    from t2i_track.images.png import Pixels

TOLERANCE = 2
"""Of 255: what another batch size, or another number of threads, was seen to move (docs/reproducibility.md)."""


@dataclasses.dataclass(frozen=True)
class Reproduction(Shown):
    """How the picture came out this time."""

    image: str
    prompt: str
    seed: int
    equal: bool
    """Bit-equal pixels."""
    largest_difference: int | None
    """Of any channel, in 1/255; None where the first picture's file is gone and only its hash is known."""
    differing: float | None
    """Share of channel values that differ."""
    pixels_sha256: str
    recorded_sha256: str
    out: str | None
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [{"close": self.close, **dataclasses.asdict(self)}]

    def lines(self) -> tuple[str, ...]:
        return self.notes

    @property
    def close(self) -> bool:
        """Bit-equal, or within the documented tolerance."""
        return self.equal or (self.largest_difference is not None and self.largest_difference <= TOLERANCE)


def reproduce(
    workspace: Workspace,
    address: str,
    *,
    model: str | None = None,
    device: str | None = None,
    out: Path | None = None,
    allow_pickle: bool = False,
) -> Reproduction:
    """Make an image again.

    Args:
        workspace: whose database is asked where the address is not a PNG with a record in it.
        address: a PNG file of ours, anywhere, or an image's address in the database.
        model: where the weights are now; default: where they were.
        device: default: as recorded.
        out: a PNG to write.
        allow_pickle: load pickled weights.

    Raises:
        NotFound: no such image. ModelError: the weights are others. SettingsError: the device is not here.
    """
    record, original = _record(workspace, address)
    loaded, notes = _load(record, model, device, allow_pickle)
    pixels = _make(record, loaded)
    digest = png.pixels_sha256(pixels)
    if out is not None:
        _write(out, pixels, {**record, "pixels_sha256": digest})
    if original is not None and png.pixels_sha256(original) != record["pixels_sha256"]:
        notes.append("the file is not what was made: its pixels have another hash than the record")
    differs = None if original is None or original.shape != pixels.shape else abs(pixels.astype(int) - original)
    return Reproduction(
        image=address,
        prompt=record["prompt"],
        seed=record["seed"],
        equal=digest == record["pixels_sha256"],
        largest_difference=None if differs is None else int(differs.max()),
        differing=None if differs is None else float((differs > 0).mean()),
        pixels_sha256=digest,
        recorded_sha256=record["pixels_sha256"],
        out=None if out is None else str(out),
        notes=tuple(notes),
    )


def _record(workspace: Workspace, address: str) -> tuple[dict[str, Any], Pixels | None]:
    """The image's record, and its pixels where its file is there."""
    path = Path(address).expanduser()
    if path.is_file():
        record = _read(path)
        if record is not None:
            return record, png.read_pixels(path)
    from t2i_track.db import lineage

    with workspace.reading() as session:
        try:
            image = lineage.find_image(session, address, workspace.home)
        except NotFound:
            if path.is_file():
                raise NotFound(
                    f"{address} has no record of t2i-track in it, and the database does not know it"
                ) from None
            raise
        file = workspace.image_path(image)
        return _stored(image), png.read_pixels(file) if file.is_file() else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return png.read_record(path)
    except (OSError, ValueError, SyntaxError):  # not a picture, or one cut short
        return None


def _stored(image: Image) -> dict[str, Any]:
    """The record that the image's PNG has, from the database."""
    from t2i_track.runs.record import picture_record

    place = ("prompt_index", "replicate", "seed", "tokens", "truncated", "pixels_sha256")
    return {**picture_record(image.run), "prompt": image.prompt.text, **{name: getattr(image, name) for name in place}}


def _load(
    record: Mapping[str, Any], model: str | None, device: str | None, allow_pickle: bool
) -> tuple[LoadedPipeline, list[str]]:
    """The pipeline of the record, and what is not as it was then."""
    import torch

    from t2i_track.images.loading import load, set_memory_format
    from t2i_track.images.schedulers import set_scheduler

    settings = dataclasses.replace(
        Values.stored(record),
        model=model or record["model"],
        revision=None if model else record["revision"] or None,
        device=device or record["device"],
    )
    # Before anything is computed: the number of threads decides how sums are split, and so the rounding.
    torch.set_num_threads(record["threads"])
    loaded = load(settings, allow_pickle=allow_pickle)
    if (loaded.weights_sha256, loaded.lora_sha256) != (record["weights_sha256"], record["lora_sha256"]):
        raise ModelError(
            f"the weights of '{settings.model}' are not those of the record ({record['weights_sha256'][:12]} then,"
            f" {loaded.weights_sha256[:12]} now): give the folder or id that has them with --model"
        )
    set_memory_format(loaded.pipe, str(settings.memory_format))
    notes = []
    config = set_scheduler(loaded.pipe, dict(loaded.pipe.scheduler.config), settings.scheduler)
    then = record["scheduler_config"]
    changed = sorted(key for key in config.keys() | then.keys() if config.get(key) != then.get(key))
    if changed:
        notes.append(f"the scheduler's {', '.join(changed)} is not as it was")
    if loaded.device != record["device"]:
        notes.append(f"made on {record['device']}, now on {loaded.device}")
    now = versions()
    notes += [
        f"{name} was {version}, is {now.get(name, 'not installed')}"
        for name, version in record["versions"].items()
        if name in ("torch", "diffusers", "transformers", "numpy") and now.get(name) != version
    ]
    return loaded, notes


def _make(record: Mapping[str, Any], loaded: LoadedPipeline) -> Pixels:
    job = Job(record["prompt_index"], record["replicate"], record["prompt"], record["seed"])
    settings = Values.stored(record)
    refuse_ignored(loaded.pipe, settings)
    return next(sample(loaded.pipe, PromptEncoder(loaded.pipe, settings), [job], settings)).pixels


def _write(out: Path, pixels: Pixels, record: dict[str, Any]) -> None:
    try:
        write_atomically(out, png.encode(pixels, record))
    except OSError as error:
        raise SettingsError(f"cannot write {out} ({error.strerror}): choose another --out") from None
