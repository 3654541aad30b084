"""One image made again from its record, and compared with what it was. Reads only, but for the file asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from t2i_track.environment import versions
from t2i_track.errors import DatabaseError, ModelError, NotFound, SettingsError
from t2i_track.files import write_atomically
from t2i_track.images import png
from t2i_track.images.decoding import Note, decoding_of, has
from t2i_track.images.encoding import PromptEncoder
from t2i_track.images.fits import require_fit
from t2i_track.images.sampling import Job, sample
from t2i_track.notebook import Shown
from t2i_track.runs import foreign
from t2i_track.runs.adapters import Given, found_again, require_same_files
from t2i_track.runs.claims import TOLERANCE
from t2i_track.runs.plan import MARK_AI, folder_name, require_made_here, values_of
from t2i_track.settings import EMBEDDED_MODEL, UNCOMPILED, Values
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from t2i_track.db.models import Image
    from t2i_track.images.adapters import Adapters
    from t2i_track.images.loading import LoadedPipeline
    from t2i_track.images.png import Pixels


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Where the weights of a record are now, and on what they are to work; None: as a run of the database had them."""

    model: str | None = None
    model_config: str | None = None
    vae: str | None = None
    lora: str | None = None
    """Several joined by ``;``, as ``embedding``."""
    embedding: str | None = None
    device: str | None = None
    """None: as recorded."""
    allow_pickle: bool = False


def reproduce(
    workspace: Workspace,
    address: str,
    *,
    model: str | None = None,
    lora: str | None = None,
    embedding: str | None = None,
    vae: str | None = None,
    model_config: str | None = None,
    device: str | None = None,
    out: Path | None = None,
    allow_pickle: bool = False,
) -> Reproduction:
    """Make an image again.

    Args:
        workspace: whose database is asked where the address is not a PNG with a record in it.
        address: a PNG file of ours, anywhere, or an image's address in the database.
        model: where the weights are now; default: where they were, if the model is embedded or in the database.
        lora: where the LoRA is now, several joined by ``;`` in any order; default: as ``model``.
        embedding: where the textual inversion is now; default and several: as ``lora``.
        vae: where the VAE is now that stood in place of the model's; default: as ``model``.
        model_config: what a model of one file is, where ``model`` is one; default: as ``model``.
        device: default: as recorded.
        out: a PNG to write.
        allow_pickle: load pickled weights.

    Raises:
        NotFound: no such image. ModelError: the weights are others, or of a model that nobody here has named.
        SettingsError: the device is not here, or no picture can be made of a PNG's record.
    """
    record, original, notes = _record(workspace, address)
    places = Places(
        model=model, model_config=model_config, vae=vae, lora=lora, embedding=embedding, device=device,
        allow_pickle=allow_pickle,
    )  # fmt: skip
    loaded, changed = loaded_for(workspace, record, places)
    notes += changed
    pixels = made_again(record, loaded)
    digest = png.pixels_sha256(pixels)
    if out is not None:
        _write(out, pixels, {**record, "pixels_sha256": digest}, _is_marked(workspace, address))
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


def loaded_for(workspace: Workspace, record: Mapping[str, Any], places: Places) -> tuple[LoadedPipeline, list[str]]:
    """The pipeline that makes the pictures of a record, and of those that differ from it in prompt, place and seed
    alone; and what is not as it was then.

    Raises:
        ModelError: the weights are others, or of a model that nobody here has named. SettingsError: no such device.
    """
    given = {"model": places.model, "model_config": places.model_config, "vae": places.vae}
    named = _named(workspace, record, given, Given(places.lora, places.embedding), places.allow_pickle)
    return _load(workspace, record, named, places.device, places.allow_pickle)


def _record(workspace: Workspace, address: str) -> tuple[dict[str, Any], Pixels | None, list[str]]:
    """The image's record, its pixels where its file is there and has them, and why it has not."""
    path = Path(address).expanduser()
    if path.is_file():
        record = foreign.read(path)
        if record is not None:
            record = _as_recorded(workspace, path, record)
            if not is_ours(workspace, record):
                foreign.require_bounded(record)
            return record, *_pixels(path, record)
    from t2i_track.db import lineage

    try:
        with workspace.reading() as session:
            image = lineage.find_image(session, address, workspace.home)
            record, file = whole_record(session, image), workspace.image_path(image)
    except DatabaseError:
        if path.is_file():
            raise NotFound(
                f"{address} has no record of t2i-track in it that can be read, and the database does not know it"
            ) from None
        raise
    return record, *(_pixels(file, record) if file.is_file() else (None, []))


def is_ours(workspace: Workspace, record: Mapping[str, Any]) -> bool:
    """Whether a run of the database has asked for what the record asks for."""
    from t2i_track.db.models import Run
    from t2i_track.runs.record import picture_record

    try:
        with workspace.reading() as session:
            run = session.scalars(select(Run).where(Run.uuid == str(record.get("run")))).first()
            ours = {} if run is None else picture_record(run)
    except DatabaseError:
        return False
    return all(ours.get(name) == record[name] for name in ("steps", "batch_size", "height", "width", "scheduler"))


def _as_recorded(workspace: Workspace, path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record in the file, or the database's, where another picture of ours lies in the recorded one's place."""
    from t2i_track.db import lineage

    try:
        with workspace.reading() as session:
            image = lineage.image_at(session, str(path), workspace.home)
            if image is not None and image.pixels_sha256 != record["pixels_sha256"]:
                return whole_record(session, image)
    except DatabaseError:  # a PNG needs no database
        pass
    return record


def _pixels(path: Path, record: Mapping[str, Any]) -> tuple[Pixels | None, list[str]]:
    """The file's pixels; nothing is decoded that has not the size of the record."""
    from PIL.Image import DecompressionBombError

    try:
        height, width = png.size(path)
        if (height, width) != (record["height"], record["width"]):
            return None, [f"the file is {width} x {height}, not {record['width']} x {record['height']} as it was made"]
        return png.read_pixels(path), []
    except (OSError, ValueError, SyntaxError, EOFError, DecompressionBombError) as error:
        return None, [f"the file cannot be decoded ({' '.join(str(error).split())[:100]})"]


def whole_record(session: Session, image: Image) -> dict[str, Any]:
    """The record that the image's PNG has, from the database."""
    from t2i_track.runs.record import stored_record

    require_made_here(image.run, "reproduced")
    place = ("prompt_index", "replicate", "seed", "tokens", "truncated", "pixels_sha256")
    own = {name: getattr(image, name) for name in place}
    if image.note is not None:
        own["note"] = image.note
    if has(image.note, Note.HALVED):
        own["batch_size"] = image.batch_size
    own["place"] = image.prompt_index * image.run.images_per_prompt + image.replicate
    return {**stored_record(session, image), "prompt": image.prompt.text, **own}


def _named(
    workspace: Workspace, record: Mapping[str, Any], given: Mapping[str, str | None], files: Given, allow_pickle: bool
) -> Values:
    """The record's settings with the places of its weights that the user has named: now, or in a run of the database.

    A record may come from anywhere, so nothing is opened or asked for because a record names it.

    Raises:
        ModelError: nobody here has named the model, the VAE or a LoRA or embedding that the record has, or it is gone.
    """
    with contextlib.ExitStack() as opened:
        session = None
        with contextlib.suppress(DatabaseError):  # a PNG needs no database
            session = opened.enter_context(workspace.reading())
        known = _known(session, record)
        adapters = found_again(workspace, session, record, files, allow_pickle)
    if record["model"] == EMBEDDED_MODEL:
        known = {**known, "model": EMBEDDED_MODEL, "revision": None}
    named = {**known, **{name: place for name, place in given.items() if place is not None}}
    if given["model"] is not None:
        named = {**named, "revision": None, "model_config": given["model_config"]}
    if record.get("vae") is None:
        named["vae"] = None
    for name in ("model", "vae"):
        if name not in named or (named[name] is None and record.get(name) is not None):
            raise ModelError(
                f"no run here has used the {name} of this record ('{str(record.get(name))[:100]}',"
                f" {record['weights_sha256'][:12]}), and what a record names is not loaded by itself: say where it is"
                f" with --{name}"
            )
    unnamed = {"revision": None, "model_config": None}
    settings = workspace.located(dataclasses.replace(Values.stored(record), **{**unnamed, **named}))
    return dataclasses.replace(settings, **adapters)


def _known(session: Session | None, record: Mapping[str, Any]) -> dict[str, Any]:
    """Where the last run of the database with weights of this hash found them, by setting."""
    from t2i_track.db.models import Model, Run

    if session is None:
        return {}
    found: dict[str, Any] = {}
    same = Model.weights_sha256 == record["weights_sha256"]
    model = session.scalars(select(Model).where(same).order_by(Model.id.desc()).limit(1)).first()
    if model is not None:
        found = {"model": folder_name(model.name, model.revision), "revision": model.revision or None, "vae": None}
    run = session.scalars(select(Run).join(Model).where(same).order_by(Run.id.desc()).limit(1)).first()
    if run is not None:
        values = values_of(run)
        found |= {"vae": values.vae, "model_config": values.model_config}
    return found


def _load(
    workspace: Workspace, record: Mapping[str, Any], named: Values, device: str | None, allow_pickle: bool
) -> tuple[LoadedPipeline, list[str]]:
    """The pipeline of the record, and what is not as it was then."""
    import torch

    from t2i_track.images.loading import load, set_memory_format
    from t2i_track.images.schedulers import set_scheduler
    from t2i_track.images.weights import KEPT, KnownDigests

    settings = dataclasses.replace(named, device=device or record["device"])
    notes = []
    # Before anything is computed: the number of threads decides how sums are split, and so the rounding.
    threads = min(record["threads"], os.cpu_count() or 1)
    if threads < record["threads"]:
        notes.append(f"made with {record['threads']} threads, now with {threads}: pixels may differ in their rounding")
    torch.set_num_threads(threads)

    def check(weights: str, adapters: Adapters) -> None:
        then = record["weights_sha256"]
        if then != weights:
            raise ModelError(
                f"the weights of '{settings.model}' are not those of the record ({then[:12]} then, {weights[:12]} now):"
                " give the place that has them with --model"
            )
        require_same_files(record, adapters, "since the picture was made")

    known = KnownDigests(workspace.cache / KEPT)
    loaded = load(settings, allow_pickle=allow_pickle, check=check, known=known)
    set_memory_format(loaded.pipe, str(settings.memory_format))
    config = set_scheduler(loaded.pipe, loaded.configs["scheduler"], settings)
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


def made_again(record: Mapping[str, Any], loaded: LoadedPipeline) -> Pixels:
    """The picture: alone, which takes a batch's part of the time, and as it was made where that is not the same."""
    job = Job(record["prompt_index"], record["replicate"], record["prompt"], record["seed"], record.get("place") or 0)
    settings = Values.stored(record)
    require_fit(settings, loaded.pipeline_class, loaded.configs)
    compiled = settings.compile != UNCOMPILED  # for each batch size, which takes minutes
    for batch_size in dict.fromkeys((settings.batch_size if compiled else 1, settings.batch_size)):
        tried = dataclasses.replace(settings, batch_size=batch_size)
        encoder, how = PromptEncoder(loaded.pipe, tried), decoding_of(record.get("note"))
        pixels = next(sample(loaded.pipe, encoder, [job], tried, how)).pixels
        if png.pixels_sha256(pixels) == record["pixels_sha256"]:
            break
    return pixels


def _is_marked(workspace: Workspace, address: str) -> bool:
    """Whether the picture was written with IPTC's mark: as its run says, or the file where no run is known."""
    from t2i_track.db import lineage

    with contextlib.suppress(DatabaseError), workspace.reading() as session:
        return bool(lineage.find_image(session, address, workspace.home).run.config.get(MARK_AI))
    return png.is_marked(Path(address).expanduser())


def _write(out: Path, pixels: Pixels, record: dict[str, Any], marked: bool) -> None:
    try:
        write_atomically(out, png.encode(pixels, record, marked=marked))
    except OSError as error:
        raise SettingsError(f"cannot write {out} ({error.strerror}): choose another --out") from None
