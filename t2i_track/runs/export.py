"""Runs as data sets that other programs open: pictures with their prompts, seeds, settings, scores and hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout
from sqlalchemy import ScalarResult, select
from sqlalchemy.orm import Session, joinedload

from t2i_track.chunks import BadChunks, without_words
from t2i_track.db import lineage
from t2i_track.db.models import Image, ImageScore, MetricValue, Protocol, Run
from t2i_track.errors import Busy, TransferError
from t2i_track.files import TEMPORARY, alone
from t2i_track.jsontext import json_text
from t2i_track.notebook import Shown
from t2i_track.progress import progress
from t2i_track.runs.plan import known_settings
from t2i_track.settings import DECLARED
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET, IMAGEFOLDER = "parquet", "imagefolder"
SHARD_BYTES = 500_000_000
"""Of pictures in a Parquet file, as Hugging Face's own are."""
GROUP_BYTES = 50_000_000
"""Of pictures in memory."""
CARD = "README.md"
PRIVATE = ("prompt", "negative_prompt", "note")
"""What a private export leaves out; of prompts the hashes stay."""
_KINDS: Mapping[type, str] = {str: "string", int: "int64", float: "float64", bool: "bool"}
_OWN: Mapping[str, str] = {
    "prompt": "string", "prompt_sha256": "string", "negative_prompt_sha256": "string", "run": "string",
    "run_name": "string", "experiment": "string", "origin": "string", "prompt_index": "int64", "replicate": "int64",
    "seed": "int64", "base_seed": "int64", "weights_sha256": "string", "manifest_sha256": "string",
    "settings_sha256": "string", "tokens": "int64", "truncated": "bool", "flagged": "bool", "note": "string",
    "sha256": "string", "pixels_sha256": "string",
}  # fmt: skip
_SETTINGS = {name: declared for name, declared in DECLARED.items() if name not in ("seed", "num", "images_per_prompt")}


@dataclass(frozen=True)
class Export(Shown):
    """What was written."""

    folder: str
    format: str
    runs: int
    images: int
    files: tuple[str, ...]
    """Of data, as paths within the folder."""
    left_out: tuple[str, ...] = ()
    """Pictures, each with the reason."""

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(self)]

    def lines(self) -> list[str]:
        runs, images = f"{self.runs} run{'s' * (self.runs != 1)}", f"{self.images} picture{'s' * (self.images != 1)}"
        lost = f"{len(self.left_out)} left out: {'; '.join(self.left_out[:3])}" if self.left_out else ""
        opened = f'datasets.load_dataset("{self.folder}") opens it'
        return [f"{images} of {runs} -> {self.folder} ({self.format})", *filter(None, [lost]), opened]


@dataclass
class _Taken:
    """A picture to write: the row of its data, and the bytes of its file."""

    name: str
    row: dict[str, Any]
    content: bytes


@dataclass
class _Columns:
    """The columns of all rows in order: our own, the settings, the scores."""

    kinds: dict[str, str] = field(default_factory=dict)
    scores: dict[tuple[str, int], str] = field(default_factory=dict)
    """Name and protocol of a score -> its column."""


def export(
    workspace: Workspace,
    addresses: Sequence[str],
    out: Path,
    *,
    fmt: str = PARQUET,
    private: bool = False,
    skip_bad: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> Export:
    """Write the pictures of runs with what is known of them into a new folder, whole or not at all.

    Args:
        addresses: of runs.
        out: a folder that is not there, or has nothing in it.
        fmt: ``parquet`` (pictures within) or ``imagefolder`` (pictures beside a metadata.jsonl).
        private: leave out prompts, of which the hashes stay, and whatever the pictures' files say; not their pixels.
        skip_bad: write the rest where pictures are missing or are not what was recorded.
        shard_bytes: of pictures in one Parquet file.

    Raises:
        TransferError: the folder is not empty or cannot be written; pictures that are missing, changed or, where it is
            private, of a kind whose texts cannot be taken out. NotFound, Ambiguous: an address.
    """
    out = out.expanduser().absolute()
    with workspace.reading() as session:
        runs = list({run.id: run for run in (lineage.find_run(session, one) for one in addresses)}.values())
        columns = _columns(session, runs, private)
        left_out: list[str] = []
        pictures = _pictures(session, workspace, runs, columns, private, skip_bad, left_out)
        with _whole(out) as folder:
            write = _parquet if fmt == PARQUET else _imagefolder
            number, files = write(folder, pictures, columns, shard_bytes)
            if not number:
                why = "; ".join(left_out[:3]) or "make some first"
                raise TransferError(f"these runs have no picture that can be exported: {why}")
            (folder / CARD).write_text(_card(session, runs, columns, fmt, number), encoding="utf-8")
    return Export(str(out), fmt, len(runs), number, tuple(files), tuple(left_out))


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that becomes it at the end; one that is left by a killed export looks like none."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        what = "is a file" if out.is_file() else "is not empty"
        raise TransferError(f"the folder {out} {what}: give --out a new folder, nothing is written over")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with alone(out.parent / f".{out.name}.lock", timeout=0):
            for left in out.parent.glob(f".{_glob(out.name)}.*{TEMPORARY}"):
                shutil.rmtree(left, ignore_errors=True)
            folder = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
            folder.mkdir()
            try:
                yield folder
                _flush(folder)
                with suppress(FileNotFoundError):
                    out.rmdir()
                folder.rename(out)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except Timeout:
        raise Busy(f"another process is exporting to {out}: wait for it to end") from None
    except OSError as error:
        raise TransferError(f"cannot write {out} ({error.strerror or error}): choose another --out") from None


def _glob(name: str) -> str:
    import glob

    return glob.escape(name)


def _flush(folder: Path) -> None:
    """All of it on the disk, before it gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _columns(session: Session, runs: Sequence[Run], private: bool) -> _Columns:
    settings = {name: _KINDS[declared.kind] for name, declared in _SETTINGS.items()}
    found = _Columns({"width": "int64", "height": "int64", **_OWN, **settings})
    query = select(ImageScore.name, Protocol.id, Protocol.fingerprint).join(Protocol).join(Image).distinct()
    stored = session.execute(query.where(Image.run_id.in_([run.id for run in runs]))).all()
    names = [name for name, *_ in stored]
    for name, protocol, fingerprint in sorted(stored):
        column = f"score_{name}" if names.count(name) == 1 else f"score_{name}_{fingerprint[:8]}"
        found.scores[name, protocol] = column
        found.kinds |= {column: "float64", f"{column}_protocol": "string"}
    if private:
        found.kinds = {name: kind for name, kind in found.kinds.items() if name not in PRIVATE}
    return found


def _pictures(
    session: Session,
    workspace: Workspace,
    runs: Sequence[Run],
    columns: _Columns,
    private: bool,
    skip_bad: bool,
    left_out: list[str],
) -> Iterator[_Taken]:
    """One at a time, in the order of the runs and of their prompts."""
    counts = lineage.image_counts(session, [run.id for run in runs])
    done = 0
    with progress("pictures exported", sum(counts.values())) as show:
        for run in runs:
            shared, scores = _of_run(run), _scores(session, run, columns)
            with closing(_images(session, run)) as images:  # a server's cursor is open where a picture ends the export
                for image in images:
                    done += 1
                    show(done)
                    content = _content(workspace, image, private, skip_bad, left_out)
                    if content is None:
                        continue
                    row = {**shared, **_of_image(image, content), **scores.get(image.id, {})}
                    suffix = Path(image.path).suffix.lower() or ".png"
                    name = f"{run.uuid[:12]}/{image.prompt_index:06d}.{image.replicate}{suffix}"
                    yield _Taken(name, {name: row.get(name) for name in columns.kinds}, content)


def _images(session: Session, run: Run) -> ScalarResult[Image]:
    query = select(Image).where(Image.run_id == run.id).options(joinedload(Image.prompt))
    return session.scalars(query.order_by(Image.prompt_index, Image.replicate).execution_options(yield_per=500))


def _of_run(run: Run) -> dict[str, Any]:
    settings = {name: value for name, value in known_settings(run).items() if name in _SETTINGS}
    return {
        **{name: _as(_SETTINGS[name].kind, value) for name, value in settings.items()},
        "run": run.uuid,
        "run_name": run.name,
        "experiment": run.experiment,
        "origin": run.origin,
        "base_seed": run.base_seed,
        "weights_sha256": run.model.weights_sha256,
        "manifest_sha256": run.manifest.sha256,
        "settings_sha256": run.settings_sha256,
        "negative_prompt_sha256": lineage.text_sha256(run.negative_prompt),
    }


def _as(kind: type, value: Any) -> Any:
    return value if value is None else kind(value)


def _of_image(image: Image, content: bytes) -> dict[str, Any]:
    names = ("prompt_index", "replicate", "seed", "tokens", "truncated", "flagged", "note", "width", "height")
    own = {name: value for name in ("dtype", "batch_size") if (value := getattr(image, name)) is not None}
    return {
        **{name: getattr(image, name) for name in names},
        **own,
        "prompt": image.prompt.text,
        "prompt_sha256": image.prompt.sha256,
        "sha256": hashlib.sha256(content).hexdigest(),
        "pixels_sha256": image.pixels_sha256,
    }


def _scores(session: Session, run: Run, columns: _Columns) -> dict[int, dict[str, Any]]:
    """Image -> its own scores, each with the fingerprint of its protocol."""
    found: dict[int, dict[str, Any]] = {}
    query = select(ImageScore, Protocol.fingerprint).join(Protocol).join(Image, Image.id == ImageScore.image_id)
    for score, fingerprint in session.execute(query.where(Image.run_id == run.id)):
        column = columns.scores[score.name, score.protocol_id]
        found.setdefault(score.image_id, {}).update({column: score.value, f"{column}_protocol": fingerprint})
    return found


def _content(workspace: Workspace, image: Image, private: bool, skip_bad: bool, left_out: list[str]) -> bytes | None:
    """The bytes of the picture's file; None where it was left out."""
    path = workspace.image_path(image)
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != image.sha256 and _pixels(content) != image.pixels_sha256:
            raise BadChunks("it is not the picture that was recorded")
        if private:
            content = without_words(content)
            if _pixels(content) != image.pixels_sha256:
                raise BadChunks("without what it says of itself it is another picture, as one that EXIF turns")
    except (OSError, BadChunks) as error:
        reason = f"{path} ({getattr(error, 'strerror', None) or error})"
        if not skip_bad:
            raise TransferError(f"cannot export {reason}: repair it, or export the rest with --skip-bad") from None
        left_out.append(reason)
        return None
    return content


def _pixels(content: bytes) -> str:
    import io

    import numpy as np
    from PIL import Image as PilImage

    from t2i_track.images.png import pixels_sha256
    from t2i_track.pictures import rgb

    with PilImage.open(io.BytesIO(content)) as opened:
        return pixels_sha256(np.asarray(rgb(opened)))


def _imagefolder(folder: Path, pictures: Iterator[_Taken], _columns: _Columns, _most: int) -> tuple[int, Sequence[str]]:
    """Hugging Face's imagefolder: pictures, and a line of metadata.jsonl for each."""
    number = 0
    with (folder / "metadata.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for picture in pictures:
            path = folder / "images" / picture.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture.content)
            row = {"file_name": f"images/{picture.name}", **picture.row}
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            number += 1
    return number, ["metadata.jsonl"]


def _parquet(folder: Path, pictures: Iterator[_Taken], columns: _Columns, most: int) -> tuple[int, Sequence[str]]:
    """Parquet files with the pictures in the layout of Hugging Face's Image feature, each of about ``most`` bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, data = _schema(columns), folder / "data"
    data.mkdir()
    shards: list[Path] = []
    number = 0
    for shard in _shards(pictures, most):
        shards.append(data / f"{len(shards):05d}.parquet")
        with pq.ParquetWriter(shards[-1], schema, compression="zstd") as writer:
            for group in _groups(shard):
                rows = [{"image": {"bytes": one.content, "path": Path(one.name).name}, **one.row} for one in group]
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                number += len(group)
    names = []
    for place, path in enumerate(shards):
        name = f"train-{place:05d}-of-{len(shards):05d}.parquet"
        path.rename(data / name)
        names.append(f"data/{name}")
    return number, names


def _shards(pictures: Iterator[_Taken], most: int) -> Iterator[Iterator[_Taken]]:
    """The pictures in runs of about so many bytes; each has to be taken whole before the next."""
    first = next(pictures, None)
    while first is not None:
        held = [first]

        def shard(held: list[_Taken] = held) -> Iterator[_Taken]:
            size = len(held[0].content)
            yield held.pop()
            for picture in pictures:
                size += len(picture.content)
                if size > most:
                    held.append(picture)
                    return
                yield picture

        yield shard()
        first = held.pop() if held else None


def _groups(pictures: Iterator[_Taken]) -> Iterator[list[_Taken]]:
    group: list[_Taken] = []
    for picture in pictures:
        group.append(picture)
        if sum(len(one.content) for one in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _schema(columns: _Columns) -> pa.Schema:
    import pyarrow as pa

    kinds: Mapping[str, Callable[[], Any]] = {
        "string": pa.string, "int64": pa.int64, "float64": pa.float64, "bool": pa.bool_,
    }  # fmt: skip
    image = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    features = {"image": {"_type": "Image"}, **{n: {"dtype": k, "_type": "Value"} for n, k in columns.kinds.items()}}
    told = json.dumps({"info": {"features": features}})
    fields = [image, *(pa.field(name, kinds[kind]()) for name, kind in columns.kinds.items())]
    return pa.schema(fields, metadata={"huggingface": told})


def _card(session: Session, runs: Sequence[Run], columns: _Columns, fmt: str, number: int) -> str:
    """The data set's card: where the data are, what the columns are, and every run with its scores and protocols."""
    configs = "configs:\n- config_name: default\n  data_files: data/*.parquet\n" if fmt == PARQUET else ""
    shown = [_run_record(session, run) for run in runs]
    return (
        f"---\n{configs}tags:\n- t2i-track\n---\n\n# {number} pictures of {len(runs)} runs\n\n"
        "Written by `t2i export`. Each row is a picture; a score that it has itself stands under `score_NAME`, and the"
        " fingerprint\nof the protocol that it was measured with under `score_NAME_protocol`. Values of different"
        " protocols cannot be compared.\n`sha256` is of the picture's file, `pixels_sha256` of its decoded pixels,"
        " `prompt_sha256` of its prompt.\n\n"
        f"The runs, with the scores of all their pictures:\n\n```json\n{json_text(shown)}\n```\n"
    )


def _run_record(session: Session, run: Run) -> dict[str, Any]:
    query = select(MetricValue).where(MetricValue.run_id == run.id).options(joinedload(MetricValue.protocol))
    told = ("name", "value", "ci_low", "ci_high", "n", "note")
    scores = [
        {**{name: getattr(value, name) for name in told}, "protocol": value.protocol.fingerprint}
        for value in session.scalars(query.order_by(MetricValue.name, MetricValue.id))
    ]
    return {"run": run.uuid, "name": run.name, "guidance": run.guidance, "steps": run.steps, "scores": scores}
