"""Programs stopped at named moments: what a user does next ends as if nothing had happened.

T2I_TEST_KILLS says how many of the kills of the table are tried; the first of them are of every kind.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import Warm
from moments import BLOWS, MOMENTS, Kill, kills
from worlds import WORLDS, Stage, onward, state

from t2i_track.runs.projection import pending
from t2i_track.workspace import Workspace

KILLS = int(os.environ.get("T2I_TEST_KILLS", "10"))
PAUSE = 0.05
"""Seconds until the second blow."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, warm: Warm, fresh_mlflow_store: Path) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"), warm.run, fresh_mlflow_store)


def test_every_world_has_moments() -> None:
    assert {moment.world for moment in MOMENTS} == WORLDS.keys()
    assert {kill.moment.world for kill in kills()[:10]} == WORLDS.keys()
    assert {kill.signals for kill in kills()[:10]} == set(BLOWS)


@pytest.mark.parametrize("kill", kills()[:KILLS], ids=str)
def test_stopped_at_a_named_moment(stage: Stage, kill: Kill) -> None:
    world = WORLDS[kill.moment.world]
    undisturbed = stage.undisturbed(kill.moment.world)
    stage.set_up(kill.moment.world)
    told = stage.folder / "tmp" / "told"
    ended = stage.run(
        world.command,
        stop={
            "at": kill.moment.at,
            "call": kill.moment.call,
            "when": kill.when,
            "signals": list(kill.signals),
            "pause": PAUSE,
            "told": str(told),
        },
    )
    assert told.exists(), f"{kill.moment.at} was not reached: {ended.err}"
    told.unlink()
    check_ending(stage, kill.signals, ended.code)
    again = stage.run(onward(stage.folder, world.command))
    assert again.code == 0, again.err
    check_same(stage, undisturbed)


def check_ending(stage: Stage, signals: tuple[str, ...], code: int) -> None:
    """Nothing but SIGKILL keeps a program from ending by itself, with nothing left in the temporary folder."""
    if "SIGKILL" in signals:
        assert code in ((-9,) if signals[0] == "SIGKILL" else (-9, 0, 1))
    else:
        assert code in (0, 1)
        assert list((stage.folder / "tmp").iterdir()) == []


def check_same(stage: Stage, undisturbed: dict[str, object]) -> None:
    found = state(stage.folder)
    for part, expected in undisturbed.items():
        assert found[part] == expected, part
    workspace = Workspace(stage.folder / "t2i-data")
    with workspace.reading() as session:
        assert pending(session, workspace) == []
