"""Where state lives: the home folder, the run database, the cache."""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from t2i_track.errors import SettingsError
from t2i_track.settings import DECLARED, EMBEDDED_MODEL, Values

if TYPE_CHECKING:
    # The command line's --help must not wait for SQLAlchemy.
    from sqlalchemy import URL, Engine
    from sqlalchemy.orm import Session

    from t2i_track.db.models import Image, Run

DEFAULT_HOME = Path("t2i-data")
DATABASE = "t2i.db"
IN_HOME = "./"
"""How a stored model, VAE or LoRA begins that lies in the home folder: no id of the hub begins so."""
PLACES = tuple(name for name, declared in DECLARED.items() if declared.place)
"""The settings that may be paths."""

S = TypeVar("S", bound=Values)
T = TypeVar("T")


@dataclass(frozen=True)
class Workspace:
    """A home folder and a database. Nothing is created before something is written."""

    home: Path = DEFAULT_HOME
    db_url: str | None = None

    @property
    def url(self) -> str | URL:
        """Of the database. Of a file as parts: in a text, a '?' in the home's name would end the file's."""
        from sqlalchemy import URL

        return self.db_url or URL.create("sqlite", database=str(self.home / DATABASE))

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def outbox(self) -> Path:
        return self.home / "outbox"

    @cached_property
    def engine(self) -> Engine:
        """For writing; creates a fresh database."""
        from t2i_track.db.session import writable_engine

        self.require_writable()
        engine = writable_engine(self.url)
        if engine.dialect.name != "sqlite":  # of a file `close_all` takes care
            # A server has only so many connections. Not at exit: a process that was forked would close its parent's.
            weakref.finalize(self, engine.dispose).atexit = False
        return engine

    def begin(self) -> AbstractContextManager[Session]:
        """A unit of work: committed at its end, rolled back on an error."""
        from t2i_track.db.session import connected, explained, sessions

        @contextmanager
        def unit() -> Iterator[Session]:
            with explained(self.url), sessions(self.engine)() as session:
                connected(session, self.url)
                yield session
                session.commit()

        return unit()

    def committed(self, unit: Callable[[Session, bool], T]) -> T:
        """What a unit of work returns that can be done again where the server went away in it.

        Args:
            unit: of a session, and whether it may have been committed already: a connection that is lost at the end
                does not tell. It does nothing outside of the database.
        """
        from t2i_track.db.outages import waited
        from t2i_track.db.session import explained, sessions

        attempts = count()

        def attempt() -> T:
            with sessions(self.engine).begin() as session:
                return unit(session, next(attempts) > 0)

        with explained(self.url):
            return waited(attempt, self.url)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that the database engine itself keeps from writing."""
        from t2i_track.db.session import LineageSession, connected, explained, read_engine

        engine = read_engine(self.url)
        try:
            with explained(self.url), LineageSession(engine) as session:
                connected(session, self.url)
                yield session
        finally:
            engine.dispose()

    @property
    def trash(self) -> Path:
        """Where deleted runs and foreign files wait for `t2i gc`."""
        return self.home / "trash"

    def require_writable(self) -> None:
        """Make the home folder, or say why not.

        Raises:
            SettingsError: the folder cannot be made or written.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"cannot make the home folder {self.home} ({error.strerror}): choose another with --home"
            ) from None
        if not os.access(self.home, os.W_OK | os.X_OK):
            raise SettingsError(f"the home folder {self.home} cannot be written: choose another with --home")

    def require_changeable(self) -> None:
        """As ``require_writable``, for what needs a home that is there: no other one is made."""
        if self.home.exists():
            self.require_writable()

    def images_folder(self, run_uuid: str, outdir: Path | None) -> Path:
        """A run's own folder, so that no run can overwrite another's files."""
        return (self.home / "images" if outdir is None else outdir) / run_uuid[:12]

    def stored_path(self, path: Path) -> str:
        """A path as the database keeps it: relative to the home folder where it lies inside."""
        absolute, home = path.absolute(), self.home.absolute()
        return (absolute.relative_to(home) if absolute.is_relative_to(home) else absolute).as_posix()

    def stored_settings(self, settings: S) -> S:
        """The settings with a model, a VAE, LoRAs and embeddings of this disk as the database keeps them: absolute, or
        ``./…`` in the home folder, so that they are found from any folder, and in a copy of the home. Ids are left as
        they are."""
        return self._with_places(settings, self._stored_place)

    def located(self, settings: S) -> S:
        """The settings with the paths of a stored model, VAE, LoRAs and embeddings as they are found from here."""
        return self._with_places(settings, self._place)

    def _with_places(self, settings: S, change: Callable[[str], str]) -> S:
        changes: dict[str, Any] = {name: DECLARED[name].with_places(getattr(settings, name), change) for name in PLACES}
        return dataclasses.replace(settings, **changes)

    def _stored_place(self, name: str) -> str:
        if name == EMBEDDED_MODEL or not (path := Path(name).expanduser()).exists():
            return name
        stored = self.stored_path(Path(os.path.normpath(path.absolute())))
        return stored if Path(stored).is_absolute() else IN_HOME + stored

    def _place(self, name: str) -> str:
        # Earlier versions stored what was typed: such a path is one from the current folder.
        if not name.startswith(IN_HOME) or not (self.home / name).exists():
            return name
        return str((self.home / name).absolute())

    def image_path(self, image: Image) -> Path:
        return self.home / image.path

    def run_lock(self, run: Run) -> Path:
        """Held by the process that makes the run."""
        return self.run_folder(run) / ".lock"

    def run_folder(self, run: Run) -> Path:
        return self.images_folder(run.uuid, Path(run.config["outdir"]) if run.config.get("outdir") else None)
