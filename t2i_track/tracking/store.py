"""MLflow's store: where it is, whether it answers, and its failures as ours."""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from t2i_track.errors import Missing, Refused, TrackingError, Unreachable
from t2i_track.tracking import making, patience
from t2i_track.tracking.making import sqlite_uri as sqlite_uri
from t2i_track.urls import hidden
from t2i_track.urls import shown as shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

TIMEOUT = 4
"""Seconds that a server has to answer whether it is there."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_SETTINGS = {
    # MLflow tries for four minutes and longer; what cannot be sent soon is sent later instead.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # stdout carries results only.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def resolve(uri: str | None) -> str:
    """A tracking URI without relative paths; None: the environment's, or MLflow's default.

    The settings above are put into the environment, since MLflow reads them at each call, where the user has not.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import get_tracking_uri

    for name in ("mlflow.store.db.utils", "alembic"):  # migrations of a fresh store, on stderr
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = uri or get_tracking_uri()
    path = sqlite_path(uri)
    return uri if path is None else sqlite_uri(path)


def client(uri: str) -> MlflowClient:
    """A client for one call; for a database URI it opens the database, or makes it, so ``check`` it first.

    Raises:
        Unreachable: there is no time left for another call (see ``patience``).
    """
    patience.require_time(shown(uri))
    return _client(uri)


@cache
def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    path = sqlite_path(uri)
    if path is not None:
        making.make(path)
    return MlflowClient(uri)


def sqlite_path(uri: str) -> Path | None:
    """The database file of an SQLite URI."""
    prefix, _, path = uri.partition(":///")
    return Path(unquote(path.partition("?")[0])) if prefix.startswith("sqlite") and path else None


def check(uri: str, *, create: bool) -> None:
    """See in a few seconds whether the tracking store answers, instead of after MLflow's minutes of trying again.

    Args:
        uri: an absolute tracking URI.
        create: an SQLite database that is not there yet will do.

    Raises:
        Unreachable: it does not answer.
    """
    patience.require_time(shown(uri))
    path = sqlite_path(uri)
    reason = _no_sqlite(path, create) if path is not None else _malformed(uri) or _no_store(uri)
    if reason is not None:
        raise Unreachable(f"MLflow at {shown(uri)} cannot be reached ({reason}): start it or set MLFLOW_TRACKING_URI")


def _malformed(uri: str) -> str | None:
    """What is wrong with an address that nothing can be at."""
    if "://" not in uri and shown(uri) != uri:  # MLflow would make a folder of that name
        return "it has a user and no '://'"
    try:
        parts = urlsplit(uri)
        server, port = parts.scheme.partition("+")[0] in {"http", "https", *_PORTS}, parts.port
    except ValueError:
        return "its host or port is malformed"
    if parts.scheme.partition("+")[0] == "sqlite":
        return "it names no file: write sqlite:///mlflow.db"
    if server and (not parts.hostname or port == 0):
        return "it names no host"
    return None


def _no_store(uri: str) -> str | None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return _no_server(uri)
    try:
        cast(Any, _tracking_store_registry).get_store_builder(uri)
    except MlflowException:
        return f"MLflow has no store of the kind '{parts.scheme or shown(uri)}'"
    kind = parts.scheme.partition("+")[0]
    if kind in _PORTS and parts.hostname:
        return _no_connection(parts.hostname, parts.port or _PORTS[kind]) or _no_driver(uri)
    return None


def _no_driver(uri: str) -> str | None:
    """MLflow makes an engine, which imports the driver and connects to nothing."""
    from mlflow.store.db.utils import create_sqlalchemy_engine

    try:
        cast(Any, create_sqlalchemy_engine)(uri).dispose()
    except Exception as error:  # noqa: BLE001 - SQLAlchemy's, and whatever a driver raises when it is imported
        return one_line(error, uri)
    return None


def _no_server(uri: str) -> str | None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request
    from requests import RequestException

    try:
        creds = cast(Any, get_default_host_creds)(uri)
        request = cast(Any, http_request)
        answer = request(creds, "/health", "GET", timeout=TIMEOUT, max_retries=0, raise_on_status=False)
    except (MlflowException, RequestException, OSError) as error:
        return _no_answer(error, uri) or one_line(error, uri)
    if answer.status_code in (401, 403):
        raise _not_let_in(uri)
    # Older servers have no /health; whatever answers below 500 is a server, and its calls will explain themselves.
    return None if answer.status_code < 500 else f"it answers {answer.status_code}"


def _not_let_in(uri: str) -> Unreachable:
    return Unreachable(
        f"MLflow at {shown(uri)} does not let you in: give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"
        " MLFLOW_TRACKING_TOKEN"
    )


def _no_answer(error: BaseException, uri: str) -> str | None:
    """In a few words, where a call has failed since no useful answer came: MLflow has it in long nested ones."""
    from requests.exceptions import ConnectionError, RetryError, Timeout
    from urllib3.exceptions import NewConnectionError, ResponseError, TimeoutError

    cause: BaseException | None = error
    while cause is not None:
        reason = getattr(cause.args[0] if cause.args else None, "reason", None)
        if isinstance(reason, NewConnectionError):  # which is a TimeoutError too
            return "no connection"
        if isinstance(cause, Timeout) or isinstance(reason, TimeoutError):
            return "no answer in time"
        if isinstance(cause, RetryError) or isinstance(reason, ResponseError):
            return one_line(reason or cause, uri)
        if isinstance(cause, ConnectionError):
            return "no connection"
        cause = cause.__cause__ or cause.__context__
    return None


def _no_sqlite(path: Path, create: bool) -> str | None:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if not path.exists():
        writable = os.access(path.parent, os.W_OK)
        return None if create and writable else "there is no such file" if writable else "its folder is not writable"
    try:
        # Writing where that is allowed: what a killed process had begun has to be rolled back before one can read.
        mode = "rw" if os.access(path, os.W_OK) else "ro"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=TIMEOUT)) as database:
            database.execute("PRAGMA schema_version").fetchone()
        tables, whole = making.tables(path), making.is_whole(path)
    except sqlite3.Error as error:
        return str(error)
    if tables and "experiments" not in tables:  # MLflow's first
        return f"it is another program's database, with table {min(tables)}"
    if not whole and not create:
        return "it was left half made: the next `t2i generate` makes it anew"
    return None if os.access(path, os.W_OK) else "the file is not writable"


def _no_connection(host: str, port: int) -> str | None:
    try:
        with closing(socket.create_connection((host, port), timeout=TIMEOUT)):
            return None
    except OSError as error:
        return str(error)


def one_line(error: BaseException, uri: str) -> str:
    """The first line of what MLflow or a library of its own says, without the secrets of the address."""
    lines = str(error).strip().splitlines()
    return hidden(lines[0] if lines else type(error).__name__, uri)[:300]


_DENIED = {"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"}
_KINDS = {"INVALID_PARAMETER_VALUE": Refused, "BAD_REQUEST": Refused, "RESOURCE_DOES_NOT_EXIST": Missing}


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Every failure of a call into MLflow as a Refused (never try again), a Missing, or a TrackingError (try later)."""
    from mlflow.exceptions import MlflowException
    from requests import HTTPError

    try:
        yield
    except TrackingError:
        raise
    except MlflowException as error:
        if error.error_code in _DENIED:
            raise _not_let_in(uri) from error
        reason = _no_answer(error, uri)
        if reason is not None:
            raise Unreachable(f"MLflow at {shown(uri)} does not answer as it should ({reason})") from error
        kind = _KINDS.get(error.error_code, TrackingError)
        raise kind(f"MLflow at {shown(uri)} refused: {one_line(error, uri)}") from error
    except HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise _not_let_in(uri) from error
        kind = Refused if status in (400, 413, 422) else TrackingError
        raise kind(f"MLflow at {shown(uri)} refused: {one_line(error, uri)}") from error
    except Exception as error:  # stores raise SQLAlchemy's, boto's, requests' and their own
        raise TrackingError(f"MLflow at {shown(uri)} failed: {one_line(error, uri)}") from error


def list_in_tag(uri: str, run_id: str, name: str, entry: dict[str, Any]) -> None:
    """Add to a tag that holds a JSON list, as ``log_table`` does for the UI's table view to find the table."""
    entries = json.loads(client(uri).get_run(run_id).data.tags.get(name, "[]"))
    if entry not in entries:
        client(uri).set_tag(run_id, name, json.dumps([*entries, entry]), synchronous=True)
