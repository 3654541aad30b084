"""Bundles of options that several commands share, each one decorator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from t2i_track.settings import MEMORY_FORMATS
from t2i_track.workspace import DEFAULT_HOME, Workspace

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


def blank(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """An empty value is none: MLproject passes every parameter, also those that were not given."""
    return value or None


def workspace_options(command: F) -> F:
    """``--home`` and ``--db-url``, handed over as one ``workspace``."""
    import functools

    @click.option(
        "--home",
        type=PATH,
        default=DEFAULT_HOME,
        envvar="T2I_HOME",
        show_envvar=True,
        help="Folder of the database, the images and the cache.",
    )
    @click.option(
        "--db-url",
        envvar="T2I_DB_URL",
        show_envvar=True,
        show_default="t2i.db in --home",
        help="SQLAlchemy URL of the run database.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, home: Path, db_url: str | None, **kwargs: Any) -> Any:
        return command(*args, workspace=Workspace(home=home, db_url=db_url or None), **kwargs)

    return wrapped  # type: ignore[return-value]


memory_format_option = click.option(
    "--memory-format",
    type=click.Choice(MEMORY_FORMATS),
    show_default="channels-last, on mps contiguous",
    help="Layout of the convolutions: decides speed and rounding.",
)


def format_option(*formats: str) -> Callable[[F], F]:
    """``--format``, the first being the default."""
    return click.option(
        "--format", "fmt", type=click.Choice(formats), default=formats[0], help="How the result is printed on stdout."
    )


def tracking_option(command: F) -> F:
    return click.option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=True,
        show_default="sqlite:///mlflow.db",
        help="MLflow's tracking store or server.",
    )(command)
