"""The table of moments at which a program is killed. To add one is to add a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest

import homes_there

BLOWS = (("SIGKILL",), ("SIGTERM",), ("SIGINT", "SIGINT"), ("SIGINT",), ("SIGTERM", "SIGKILL"), ("SIGHUP",))
"""What arrives: of two, the second in the middle of the ending that the first begins."""


@dataclass(frozen=True)
class Moment:
    world: str
    """What is there before, and which command is stopped: a key of ``worlds.WORLDS``."""
    name: str
    at: str
    """The function that it stands at (``stopping.arm``)."""
    call: int = 1
    when: tuple[str, ...] = ("before", "after")
    last: bool = False
    """Whether all is said and done, so that any signal ends the program as it stands."""
    of_the_file: bool = False
    """Whether there is no such moment where the rows are on a server."""


_ADDED = "impl:DefaultImpl" if homes_there.in_use() else "sqlite:SQLiteImpl"

MOMENTS = (
    Moment("first start", "the home folder", "t2i_track.workspace:Workspace.require_writable"),
    Moment("first start", "MLflow's store", "t2i_track.tracking.making:_fresh"),
    Moment("first start", "MLflow's tables", "mlflow.store.db.utils:_initialize_tables"),
    Moment("first start", "MLflow's migrations", "mlflow.store.db.utils:_upgrade_db"),
    Moment("first start", "MLflow's store gets its name", "t2i_track.tracking.making:_make"),
    Moment("first start", "MLflow's first experiment", "t2i_track.tracking.opening:_experiment"),
    Moment("first start", "our tables", "alembic.command:upgrade"),
    Moment("fresh schema", "our tables", "alembic.command:upgrade"),
    Moment("fresh schema", "our first table", "alembic.operations:Operations.create_table"),
    Moment("fresh schema", "a later table", "alembic.operations:Operations.create_table", 5),
    Moment("fresh schema", "the folder", "t2i_track.db.session:_make_folder", of_the_file=True),
    Moment("upgrade", "a new column", f"alembic.ddl.{_ADDED}.add_column"),
    Moment("upgrade", "its migration is done", "alembic.runtime.migration:HeadMaintainer.update_to_step"),
    Moment("upgrade", "the second migration is done", "alembic.runtime.migration:HeadMaintainer.update_to_step", 2),
    Moment("upgrade", "all of them", "alembic.command:upgrade"),
    Moment("generate", "the model", "t2i_track.images.executors.worker:load"),
    Moment("generate", "the run's row", "t2i_track.runs.generate:create_run"),
    Moment("generate", "the run's MLflow run", "t2i_track.tracking:open_run"),
    Moment("generate", "MLflow's run with its tag", "t2i_track.tracking.opening:_create"),
    Moment("generate", "the load is watched", "t2i_track.tracking.tracker:Tracker.watch_system"),
    Moment("generate", "the first picture", "t2i_track.images.png:encode"),
    Moment("generate", "the first picture's file", "t2i_track.images.writing:write_atomically"),
    Moment("generate", "the bytes of a later one", "os:fsync", 3),
    Moment("generate", "the last picture's file", "t2i_track.images.writing:write_atomically", 4),
    Moment("generate", "the first batch's rows", "t2i_track.db.lineage:add_images"),
    Moment("generate", "the last batch's rows", "t2i_track.db.lineage:add_images", 2),
    Moment("generate", "the run is finished", "t2i_track.db.lineage:finish_run"),
    Moment("generate", "the run is sent", "t2i_track.runs.projection:send"),
    Moment("generate", "MLflow is written", "t2i_track.tracking:write"),
    Moment("generate", "MLflow's numbers", "t2i_track.tracking.writing:log_batch"),
    Moment("generate", "MLflow's files", "t2i_track.tracking.writing:_write_files"),
    Moment("generate", "MLflow's manifest", "t2i_track.tracking.writing:_write_manifest"),
    Moment("generate", "MLflow's status", "t2i_track.tracking.writing:_write_status"),
    Moment("generate", "what was sent is remembered", "t2i_track.runs.projection:remember", 2),
    Moment("generate", "what is said at the end", "t2i_track.cli.generate:print_outcome"),
    Moment("generate", "the database's log", "t2i_track.db.sqlite:_checkpoint", last=True, of_the_file=True),
    Moment("resume", "the pictures are looked for", "t2i_track.runs.generate:Generator._require_pictures"),
    Moment("resume", "the model", "t2i_track.runs.generate:Generator._same_model"),
    Moment("resume", "MLflow's run is opened again", "t2i_track.runs.projection:start"),
    Moment("resume", "the first picture's file", "t2i_track.images.writing:write_atomically"),
    Moment("resume", "the rows", "t2i_track.db.lineage:add_images"),
    Moment("resume", "the run is finished", "t2i_track.db.lineage:finish_run"),
    Moment("resume", "MLflow's files", "t2i_track.tracking.writing:_write_files"),
    Moment("evaluate", "the features", "t2i_track.metrics.cache:FeatureStore.add"),
    Moment("evaluate", "the bytes of a shard", "os:fsync", 2),
    Moment("evaluate", "the scores are stored", "t2i_track.runs.evaluate:store"),
    Moment("evaluate", "a score's row", "t2i_track.db.lineage:store_value", 2),
    Moment("evaluate", "the scores of pictures", "t2i_track.db.lineage:store_image_scores"),
    Moment("evaluate", "the scores are sent", "t2i_track.runs.projection:send"),
    Moment("evaluate", "MLflow's numbers", "t2i_track.tracking.writing:log_batch"),
    Moment("evaluate", "MLflow's files", "t2i_track.tracking.writing:_write_files"),
    Moment("evaluate", "what was sent is remembered", "t2i_track.runs.projection:remember", 2),
    Moment("sweep", "its row and MLflow's run", "t2i_track.runs.sweep:_open"),
    Moment("sweep", "the first cell's row", "t2i_track.runs.generate:create_run"),
    Moment("sweep", "within the first cell", "t2i_track.db.lineage:add_images"),
    Moment("sweep", "between two cells", "t2i_track.runs.sweep:_run_cell", 2, ("before",)),
    Moment("sweep", "the second cell's row", "t2i_track.runs.generate:create_run", 2),
    Moment("sweep", "within the second cell", "t2i_track.db.lineage:add_images", 4),
    Moment("sweep", "the second cell is finished", "t2i_track.db.lineage:finish_run", 2),
    Moment("sweep", "all cells are done", "t2i_track.runs.sweep:_close"),
    Moment("sweep", "the parent is sent", "t2i_track.runs.projection:send", 3),
    Moment("rounds", "the first look's decisions", "t2i_track.db.decisions:add_decisions"),
    Moment("rounds", "the order and the looks", "t2i_track.runs.round_plan:note"),
    Moment("rounds", "the second run's row", "t2i_track.runs.generate:create_run", 2),
    Moment("rounds", "within the first round", "t2i_track.db.lineage:add_images", 2),
    Moment("rounds", "the first scores", "t2i_track.db.lineage:store_image_scores"),
    Moment("rounds", "they are committed", "t2i_track.runs.adaptive:Adaptive._store"),
    Moment("rounds", "within the second round", "t2i_track.db.lineage:add_images", 9),
    Moment("rounds", "the second scores", "t2i_track.db.lineage:store_image_scores", 4),
    Moment("rounds", "the second look's decisions", "t2i_track.db.decisions:add_decisions", 2),
    Moment("rounds", "these are committed", "t2i_track.runs.adaptive:Adaptive._store", 2),
    Moment("rounds", "why it ended", "t2i_track.runs.adaptive:note"),
    Moment("rounds", "the first run has enough", "t2i_track.runs.generate:Generator.end"),
    Moment("rounds", "between two endings", "t2i_track.runs.adaptive:Adaptive._close", 2),
    Moment("rounds", "the parent is sent", "t2i_track.runs.projection:send", 3),
    Moment("resync", "what is missing is looked for", "t2i_track.runs.resync:pending"),
    Moment("resync", "MLflow is written", "t2i_track.tracking:write"),
    Moment("resync", "MLflow's numbers", "t2i_track.tracking.writing:log_batch"),
    Moment("resync", "MLflow's files", "t2i_track.tracking.writing:_write_files"),
    Moment("resync", "MLflow's status", "t2i_track.tracking.writing:_write_status"),
    Moment("resync", "what was sent is remembered", "t2i_track.runs.projection:remember"),
)


@dataclass(frozen=True)
class Kill:
    moment: Moment
    when: str
    signals: tuple[str, ...]

    def __str__(self) -> str:
        blows = " and ".join(name.removeprefix("SIG") for name in self.signals)
        return f"{self.moment.world}: {self.when} {self.moment.name}: {blows}"


def kills() -> list[Kill]:
    """Every moment with each blow, the worlds in turn, so that the first few of them are of every kind."""
    worlds = dict.fromkeys(moment.world for moment in MOMENTS)
    turns = [_of_world(world, number) for number, world in enumerate(worlds)]
    return [kill for turn in zip_longest(*turns) for kill in turn if kill is not None]


def _of_world(world: str, first: int) -> Iterator[Kill]:
    """The blows change from moment to moment, and all of the moments come before any comes again."""
    places = [(moment, when) for moment in MOMENTS if moment.world == world for when in moment.when]
    # From one end and the other by turns: the first few are not all of the beginning.
    order = list(chain(*zip_longest(places[1::3], places[::3], places[2::3])))
    for turn in range(len(BLOWS)):
        for number, place in enumerate(found for found in order if found is not None):
            yield Kill(*place, BLOWS[(number + turn + first) % len(BLOWS)])
