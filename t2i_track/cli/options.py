"""Bundles of options that several commands share, each one decorator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from t2i_track.adapters import SEPARATOR
from t2i_track.errors import SettingsError
from t2i_track.settings import DECLARED, Decides, Setting, Settings, Stage, option
from t2i_track.urls import is_address, shown
from t2i_track.workspace import DEFAULT_HOME, Workspace


class Whole(click.ParamType[int]):
    """A whole number in any writing, 20.0 too: MLproject has no integers, and MLflow writes its floats so."""

    name = "integer"

    def __init__(self, least: int | None = None, most: int | None = None) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number: int = Setting.read(_WHOLE, param.name if param and param.name else "it", value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)
        return int(click.IntRange(self._least, self._most).convert(number, param, ctx))


class Worded(Whole):
    """A whole number, or a word for one."""

    def __init__(self, declared: Setting) -> None:
        super().__init__()
        self._declared = declared

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value in self._declared.words:
            return int(self._declared.words[value])
        return super().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "|".join((self.name.upper(), *self._declared.words))


_WHOLE = Setting(help="", kind=int, stage=Stage.NONE, decides=Decides.NOTHING)

F = TypeVar("F", bound=Callable[..., Any])


class Place(click.Path):
    """A file or folder. An address is none: a folder would be made with its password in the name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if is_address(str(value)):
            self.fail(f"'{shown(str(value))}' is an address: give a file or folder", param, ctx)
        return super().convert(value, param, ctx)


PATH = Place(path_type=Path)
DEFAULTS = Settings().to_dict()


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
    @click.option(
        "--home-in",
        type=Place(path_type=Path, exists=True, file_okay=False),
        hidden=True,
        help="Folder from which a relative --home leads; MLproject gives the one in which `mlflow run` was typed.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, home: Path, home_in: Path | None, db_url: str | None, **kwargs: Any) -> Any:
        if home_in is not None and home_in.absolute() != Path.cwd() and not home.is_absolute():
            home = home_in.absolute() / home
            click.echo(f"home folder: {home}", err=True)
        return command(*args, workspace=Workspace(home=home, db_url=db_url or None), **kwargs)

    return wrapped  # type: ignore[return-value]


def settings_options(command: F) -> F:
    """An option for every setting, one value each."""
    for name, declared in reversed(list(DECLARED.items())):
        command = _setting(name, declared, default=DEFAULTS[name], show_default=declared.open or True)(command)
    return command


def axes_options(command: F) -> F:
    """The same options for a grid: an axis takes a list; what is not given is left to the file or the default."""
    for name, declared in reversed(list(DECLARED.items())):
        shown = declared.open or str(DEFAULTS[name])
        if declared.prose or declared.several:
            more = f" Repeat it to vary it{'; several at once with ;' if declared.several else ''}."
            listed = click.option(option(name), multiple=True, show_default=declared.open, help=declared.help + more)
        elif declared.axis:
            listed = click.option(option(name), callback=_list, metavar="LIST", show_default=shown, help=declared.help)
        else:
            listed = _setting(name, declared, show_default=shown)
        command = listed(command)
    return command


def given_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Take what `axes_options` added out of the options: those that were given, an axis as a list."""
    found = {name: options.pop(name) for name in DECLARED}
    return {
        name: list(value) if DECLARED[name].axis else value
        for name, value in found.items()
        if value is not None and value not in ((), [])
    }


def _setting(name: str, declared: Setting, **shown: Any) -> Callable[[F], F]:
    if declared.several:
        more = f"{declared.help} May be repeated."
        return click.option(option(name), type=Parts(), multiple=True, callback=_joined, **{**shown, "help": more})
    whole = Worded(declared) if declared.words else Whole()
    whole_or_other = whole if declared.kind is int else declared.kind
    kind: Any = click.Choice(declared.choices) if declared.choices else whole_or_other
    return click.option(option(name), type=kind, help=declared.help, **shown)


class Parts(click.ParamType[str]):
    """One of several places; in an environment variable they are joined by ``;``."""

    name = "text"
    envvar_list_splitter = SEPARATOR

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


def _joined(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> str | None:
    """The repetitions as one setting; empty ones are none."""
    return SEPARATOR.join(part for part in value if part) or None


def _list(_ctx: click.Context, param: click.Parameter, value: str | None) -> list[str]:
    """The values of an axis; a comma separates them."""
    if value is None:
        return []
    values = [part.strip() for part in value.split(",")]
    if not all(values):
        raise click.BadParameter(f"'{value}' has an empty value: write --{param.name} 1,2,3")
    return values


def places_options(command: F) -> F:
    """Where the weights of stored pictures are now, handed over as one ``places``."""
    import functools

    @click.option("--model", show_default="where a run had them", help="Where the weights are now: a folder or an id.")
    @click.option("--lora", multiple=True, show_default="where a run had it", help="Where the LoRA is now.")
    @click.option("--embedding", multiple=True, show_default="where a run had it", help="Where the embedding is now.")
    @click.option("--vae", show_default="where a run had it", help="Where the VAE is now that replaced the model's.")
    @click.option("--model-config", show_default="where a run had it", help="What --model is, where it is one file.")
    @click.option("--device", show_default="as recorded", help="cpu, cuda, cuda:1, mps.")
    @click.option("--allow-pickle", is_flag=True, help="Load pickled weights, which can run code.")
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        several = {name: SEPARATOR.join(kwargs.pop(name)) or None for name in ("lora", "embedding")}
        single = {name: kwargs.pop(name) for name in ("model", "vae", "model_config", "device", "allow_pickle")}
        return command(*args, places={**several, **single}, **kwargs)

    return wrapped  # type: ignore[return-value]


def workers_options(command: F) -> F:
    """Who makes pictures and features, where it is not this process."""
    options = [
        click.option(
            "--address",
            callback=blank,
            show_default="in this process",
            help="Make them by a Ray cluster's workers: local (this machine), auto, ray://HOST:PORT.",
        ),
        click.option("--workers", type=Whole(1), show_default="as many as there is room for", help="How many."),
        click.option(
            "--gpus-per-worker", type=float, show_default="1 where there are GPUs", help="0.5 lets two share one."
        ),
        click.option(
            "--cpus-per-worker", type=Whole(1), show_default="2 beside a GPU, else 1", help="Also a worker's threads."
        ),
        click.option("--mixed", is_flag=True, help="Allow workers of different kinds; pictures differ in rounding."),
    ]
    for one in reversed(options):
        command = one(command)
    return command


def mark_ai_option(command: F) -> F:
    return click.option(
        "--mark-ai/--no-mark-ai",
        default=True,
        envvar="T2I_MARK_AI",
        show_envvar=True,
        help="Say in each PNG, as XMP, that a model made it; a run that is resumed keeps what it began with.",
    )(command)


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
