"""The LoRAs and embeddings that a run or a picture was made with: which file has changed, and where each is now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.adapters import joined
from t2i_track.db.models import Run
from t2i_track.errors import ModelError, SettingsError
from t2i_track.images.adapter_files import EMBEDDING, LORA, Kind, hub_id
from t2i_track.images.adapters import Adapters, find_adapters
from t2i_track.settings import DECLARED, Values
from t2i_track.workspace import Workspace

KINDS: Mapping[str, Kind] = {"lora": LORA, "embedding": EMBEDDING}
"""The settings that name such files."""
FILES = ("lora_files", "embedding_sha256", "embedding_files")
"""What is recorded of the files beside ``lora_sha256``, in a run's ``config`` and in its pictures."""


def files_record(adapters: Adapters) -> dict[str, Any]:
    """Each file by its hash, in the settings' order, and one hash for the embeddings."""
    return {name: getattr(adapters, name) for name in FILES}


def recorded_files(record: Mapping[str, Any], name: str) -> list[str]:
    """The hash of each file in order, of a run's ``config`` or a picture's record; earlier versions had one LoRA."""
    files = record.get(f"{name}_files")
    if files is not None:
        return list(files)
    alone = record.get(f"{name}_sha256")
    return [] if alone is None else [alone]


def require_same_files(record: Mapping[str, Any], now: Adapters, since: str) -> None:
    """Refuse files that are not those of the record.

    Raises:
        ModelError: names the file that has changed, with both hashes.
    """
    for name, files in (("lora", now.loras), ("embedding", now.embeddings)):
        for before, file in zip(recorded_files(record, name), files, strict=True):
            if before != file.sha256:
                raise ModelError(
                    f"the {file.kind.name} '{file.place}' has changed {since} ({before[:12]} then, {file.sha256[:12]}"
                    f" now): put the file back, or say where it is now with {file.kind.option}"
                )


@dataclass(frozen=True)
class Given:
    """What the user says of where the files are now: places, joined as in the setting."""

    lora: str | None = None
    embedding: str | None = None


def found_again(
    workspace: Workspace,
    session: Session | None,
    record: Mapping[str, Any],
    given: Given,
    allow_pickle: bool,
) -> dict[str, Any]:
    """The record's ``lora`` and ``embedding`` with the places where those very files are now.

    A file is taken from what the user gives, in any order, else from where a run of the database had it; what a
    record names is not opened because it names it.

    Raises:
        ModelError: a file is nowhere, all of those are named; or one is given that the record did not use.
    """
    return {name: _found_again(workspace, session, record, name, getattr(given, name), allow_pickle) for name in KINDS}


def _found_again(
    workspace: Workspace,
    session: Session | None,
    record: Mapping[str, Any],
    name: str,
    given: str | None,
    allow_pickle: bool,
) -> str | None:
    declared, kind, wanted = DECLARED[name], KINDS[name], recorded_files(record, name)
    if not wanted:
        return None
    then = declared.specs(record[name])
    if len(then) != len(wanted):
        raise SettingsError(f"its record has {len(then)} places of a {kind.name} and the hashes of {len(wanted)} files")
    places = {**_known(workspace, session, name, wanted), **_given(name, given, wanted, allow_pickle)}
    unknown = [number for number, sha256 in enumerate(wanted) if sha256 not in places]
    if unknown:
        which = ", ".join(_which(then[number].place, wanted[number], number, len(wanted)) for number in unknown)
        raise ModelError(
            f"no run here has used the {name} of this record ({which}), and what a record names is not loaded by"
            f" itself: say where it is with {kind.option}"
        )
    gone = [number for number, sha256 in enumerate(wanted) if not _is_there(places[sha256])]
    if gone:
        which = ", ".join(_which(places[wanted[number]], wanted[number], number, len(wanted)) for number in gone)
        raise ModelError(
            f"the {kind.name} {which} is gone: put it back, or say where it is now with {kind.option}"
            + (" (once for each)" if len(gone) > 1 else "")
        )
    return joined(dataclasses.replace(spec, place=places[sha256]) for spec, sha256 in zip(then, wanted, strict=True))


def _which(place: str, sha256: str, number: int, total: int) -> str:
    count = f" ({number + 1} of {total})" if total > 1 else ""
    return f"'{place[:100]}', {sha256[:12]}{count}"


def _is_there(place: str) -> bool:
    return Path(place).expanduser().exists() or hub_id(place) is not None


def _given(name: str, given: str | None, wanted: Sequence[str], allow_pickle: bool) -> dict[str, str]:
    """Hash -> place of what the user gives."""
    specs = DECLARED[name].specs(given)
    if scaled := next((spec for spec in specs if spec.written is not None), None):
        raise SettingsError(f"--{name} {scaled.place}:{scaled.written}: its scale is the record's, give the file alone")
    only: dict[str, Any] = {name: given}
    adapters = find_adapters(Values(**only), allow_pickle)
    for file in adapters.files:
        if file.sha256 not in wanted:
            then = ", ".join(sha256[:12] for sha256 in wanted)
            raise ModelError(
                f"the weights of '{file.place}' are not those of the record ({then} then, {file.sha256[:12]} now): give"
                f" the place that has them with --{name}"
            )
    return {file.sha256: file.place for file in adapters.files}


def _known(workspace: Workspace, session: Session | None, name: str, wanted: Sequence[str]) -> dict[str, str]:
    """Hash -> where the newest run that used the file had it; one that is there before one that is gone."""
    found: dict[str, str] = {}
    if session is None:
        return found
    for run in session.scalars(select(Run).order_by(Run.id.desc())):
        hashes = recorded_files(run.config, name)
        for sha256, place in zip(hashes, _places(workspace, run, name), strict=False):
            if sha256 in wanted and (sha256 not in found or (_is_there(place) and not _is_there(found[sha256]))):
                found[sha256] = place
        if found.keys() >= set(wanted) and all(map(_is_there, found.values())):
            break
    return found


def _places(workspace: Workspace, run: Run, name: str) -> list[str]:
    settings = workspace.located(Values.stored(run.config["settings"]))
    return [spec.place for spec in DECLARED[name].specs(getattr(settings, name))]


def same_setting(name: str, stored: Any, given: Any) -> bool:
    """Whether a setting is repeated; a path may be written in another way, and so may a scale."""
    if stored == given or not (isinstance(stored, str) and isinstance(given, str)):
        return bool(stored == given)
    declared = DECLARED[name]
    if not declared.several:
        return declared.place and _same_place(stored, given)
    parts = declared.specs(stored), declared.specs(given)
    return len(parts[0]) == len(parts[1]) and all(
        then.scale == now.scale and (then.place == now.place or _same_place(then.place, now.place))
        for then, now in zip(*parts, strict=True)
    )


def _same_place(stored: str, given: str) -> bool:
    paths = Path(stored).expanduser(), Path(given).expanduser()
    return all(path.exists() for path in paths) and paths[0].samefile(paths[1])
