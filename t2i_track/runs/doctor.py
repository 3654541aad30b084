"""What a run needs, and whether it is here."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from t2i_track import assets
from t2i_track.environment import versions
from t2i_track.errors import DatabaseError, NoDatabase, T2IError
from t2i_track.filesystems import shared_filesystem
from t2i_track.images.families import Guidance
from t2i_track.settings import Values
from t2i_track.urls import hidden, shown
from t2i_track.workspace import Workspace

LITTLE_DISK = 2 * 10**9
NETWORK = "let one command write at a time, or use a local disk or a server (docs/database.md)"


@dataclass(frozen=True)
class Finding:
    """``broken`` keeps runs from being made; ``note`` only limits what they can do."""

    check: str
    status: Literal["ok", "note", "broken"]
    detail: str


def check(workspace: Workspace, tracking_uri: str | None) -> list[Finding]:
    """Every check, whatever the others find."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("versions", _versions),
        ("device", _device),
        ("embedded model", _embedded_model),
        ("home", lambda: _home(workspace)),
        ("database", lambda: _database(workspace)),
        ("mlflow", lambda: _mlflow(workspace, tracking_uri)),
        ("inception weights", _inception),
    ]
    findings = []
    for name, look in checks:
        try:
            findings.append(look())
        except (T2IError, ImportError, OSError) as error:
            findings.append(Finding(name, "broken", hidden(" ".join(str(error).split()))))
    return findings


def check_model(settings: Values, allow_pickle: bool) -> list[Finding]:
    """What a model is and needs; nothing of it is loaded, and of an id its configurations alone are downloaded."""
    from t2i_track.images.inspection import facts
    from t2i_track.images.loading import choose_device, choose_dtype
    from t2i_track.images.model_folder import Choice

    try:
        dtype = choose_dtype(settings.dtype, choose_device(settings.device))
        found = facts(settings, Choice(dtype, settings.variant, allow_pickle))
    except (T2IError, ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        named = reason if settings.model in reason else f"'{shown(settings.model)}': {reason}"
        return [Finding("model", "broken", hidden(named))]
    family = found.family
    published = [f"guidance {found.default_guidance:g}"] if found.default_guidance is not None else []
    published += [f"{found.default_steps} steps"] if found.default_steps is not None else []
    sizes = [f"{found.files_bytes / 1e9:.2f} GB of weights {'on this machine' if found.here else 'to download'}"]
    if found.parameters is not None:
        sizes += [f"{found.parameters / 1e6:,.0f} million numbers"]
        sizes += [f"{found.parameters * bytes_each / 1e9:.2f} GB of memory in {name}" for name, bytes_each in _BYTES]
    rows = [
        Finding("family", "ok", f"{family.title} ({found.pipeline_class})"),
        Finding("guidance", "ok" if found.guidance is not Guidance.NONE else "note", found.guidance.value),
        Finding("schedulers", "ok", f"its own: {found.scheduler}; {', '.join(found.schedulers)}"),
        Finding("size of pictures", "ok", f"{found.size} x {found.size}; multiples of {family.multiple}"),
        Finding("defaults of its class", "ok", ", ".join(published)),
        Finding("weights", "ok", ", ".join(sizes)),
    ]
    return [*rows, *([Finding("made for", "note", f"few steps: {found.made_for}")] if found.made_for else [])]


_BYTES = (("fp32", 4), ("fp16 or bf16", 2))


def _versions() -> Finding:
    found = versions()
    return Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in found.items()))


def _device() -> Finding:
    import torch

    # A torchvision that does not fit torch fails here, and with it diffusers would later.
    importlib.import_module("torchvision")

    from t2i_track.images.loading import choose_device, choose_dtype

    device = choose_device(None)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    detail = f"{device} ({name}), {choose_dtype(None, device)}"
    return Finding("device", "ok" if device != "cpu" else "note", detail)


def _embedded_model() -> Finding:
    folder = assets.shapes_sd()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if not (folder / "model_index.json").is_file():
        return Finding("embedded model", "broken", f"missing from {folder}: install t2i-track again")
    return Finding("embedded model", "ok", f"{size / 1e6:.1f} MB")


def _home(workspace: Workspace) -> Finding:
    existing = workspace.home.absolute()
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("home", "broken", f"{workspace.home} cannot be written: choose another with --home")
    free = shutil.disk_usage(existing).free
    detail = f"{workspace.home}, {free / 1e9:.1f} GB free"
    kind = shared_filesystem(existing)
    if kind is not None:
        detail += f", on a network file system ({kind}): {NETWORK}"
    return Finding("home", "note" if kind is not None or free < LITTLE_DISK else "ok", detail)


def _database(workspace: Workspace) -> Finding:
    from t2i_track.db.session import any_read_engine, explained, require_current, schema_version

    try:
        engine = any_read_engine(workspace.url)
    except NoDatabase as error:
        return Finding("database", "note", str(error))
    try:
        with explained(workspace.url):
            version = schema_version(engine)
    finally:
        engine.dispose()
    if version is None:  # a server's database is there before its first table is
        return Finding("database", "note", "it has no tables yet: make a first run with 't2i generate'")
    require_current(version, workspace.url)
    return Finding("database", "ok", f"schema {version}")


def _mlflow(workspace: Workspace, tracking_uri: str | None) -> Finding:
    from t2i_track.runs.projection import pending
    from t2i_track.tracking import Tracker, unsent

    with Tracker(tracking_uri, workspace.outbox) as tracker:
        tracker.check()
    waiting = len(unsent(workspace.outbox))
    with suppress(DatabaseError), workspace.reading() as session:  # that check is another's
        waiting += len(pending(session, workspace))
    kind = tracker.shared_filesystem()
    if kind is not None:
        return Finding("mlflow", "note", f"{shown(tracker.uri)} is on a network file system ({kind}): {NETWORK}")
    if waiting:
        return Finding("mlflow", "note", f"{shown(tracker.uri)}; {waiting} runs are not all there: run 't2i resync'")
    return Finding("mlflow", "ok", shown(tracker.uri))


def _inception() -> Finding:
    from t2i_track.metrics.extractors import inception_file

    file = inception_file()
    if file.is_file():
        return Finding("inception weights", "ok", str(file))
    return Finding("inception weights", "note", f"not at {file}: fetched when first needed; see docs/metrics.md")
