"""Write the migration that brings the tables from the last one to what ``t2i_track/db/models.py`` says now.

Used by ``make migration m="what changes"``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from t2i_track.db import session as database


def write(message: str) -> Path | None:
    """The new file; None where the tables say nothing new."""
    config = database.alembic_config()
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    last = ScriptDirectory.from_config(config).get_current_head() or "0000"
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/t2i.db"
        database.upgrade(url)
        engine = create_engine(url)
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            script = command.revision(
                config,
                message,
                autogenerate=True,
                rev_id=f"{int(last) + 1:04d}",
                process_revision_directives=_drop_empty,
            )
        engine.dispose()
    return Path(script.path) if script and not isinstance(script, list) else None


def _drop_empty(_context: Any, _revision: Any, directives: list[Any]) -> None:
    if directives[0].upgrade_ops.is_empty():
        directives.clear()


def main() -> None:
    message = " ".join(sys.argv[1:]).strip()
    if not message:
        raise SystemExit('say what changes: make migration m="runs have a clip_skip"')
    path = write(message)
    if path is None:
        raise SystemExit("t2i_track/db/models.py says nothing that the last migration does not")
    revision = path.name.partition("_")[0]
    print(f"{path}: read it (rows that exist need a value for a column that is not null), then add")
    print(f'"{revision}" to REVISIONS in t2i_track/db/session.py')


if __name__ == "__main__":
    main()
