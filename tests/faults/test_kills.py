"""Programs stopped at named moments and random instants: what a user does next ends as if nothing had happened.

T2I_TEST_KILLS says how many of the kills of the table are tried; the first of them are of every kind.
"""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Warm
from moments import BLOWS, MOMENTS, Kill, kills
from worlds import WORLDS, Stage, onward, state

from t2i_track.runs.projection import pending
from t2i_track.workspace import Workspace

KILLS = int(os.environ.get("T2I_TEST_KILLS", "10"))
PAUSE = 0.05
"""Seconds until the second blow."""
IN_A_ROW = 3


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, warm: Warm, fresh_mlflow_store: Path) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"), warm.run, fresh_mlflow_store)


def test_every_world_has_moments() -> None:
    assert {moment.world for moment in MOMENTS} == WORLDS.keys()
    assert {kill.moment.world for kill in kills()[:10]} == WORLDS.keys()
    assert {kill.signals for kill in kills()[:10]} == set(BLOWS)
    assert len(set(kills())) == len(kills()) == len(BLOWS) * sum(len(moment.when) for moment in MOMENTS)


def param(kill: Kill) -> Any:
    of_the_file = [pytest.mark.sqlite_only("a moment in the making of the file")] if kill.moment.of_the_file else []
    return pytest.param(kill, marks=of_the_file, id=str(kill))


@pytest.mark.parametrize("kill", [param(kill) for kill in kills()[:KILLS]])
def test_stopped_at_a_named_moment(stage: Stage, kill: Kill) -> None:
    world = WORLDS[kill.moment.world]
    undisturbed = stage.undisturbed(kill.moment.world)
    stage.set_up(kill.moment.world)
    ended = stage.run(world.command, stop=placed(stage, kill))
    told = stage.folder / "tmp" / "told"
    assert told.exists(), f"{kill.moment.at} was not reached: {ended.err}"
    told.unlink()
    check_ending(stage, kill, ended.code)
    again = stage.run(onward(stage.folder, world.command))
    assert again.code == 0, again.err
    check_same(stage, undisturbed)


@pytest.mark.parametrize("number", range(max(1, KILLS // 10)))
def test_killed_again_and_again_at_random_instants(stage: Stage, number: int) -> None:
    """The sweep first: it has most to go on with."""
    name = sorted(WORLDS, key=lambda name: name != "sweep")[number % len(WORLDS)]
    undisturbed = stage.undisturbed(name)
    stage.set_up(name)
    command, rng = WORLDS[name].command, random.Random(number)
    for _ in range(IN_A_ROW):
        stage.run(command, blows=[(rng.uniform(0, stage.seconds(name)), "SIGKILL")])
        command = onward(stage.folder, command)
    again = stage.run(command)
    assert again.code == 0, again.err
    check_same(stage, undisturbed)


@pytest.mark.parametrize(
    ("world", "at", "said"),
    [
        ("generate", "t2i_track.db.lineage:add_images", "interrupted; what is made is kept. Go on with: t2i generate"),
        ("sweep", "t2i_track.db.lineage:add_images", "what is made is kept: the same command goes on"),
        ("evaluate", "t2i_track.metrics.cache:FeatureStore.add", "t2i: stopped"),
    ],
)
def test_a_supervisor_that_ends_it_is_told_how_to_go_on(stage: Stage, world: str, at: str, said: str) -> None:
    stage.set_up(world)
    told = str(stage.folder / "tmp" / "told")
    stop = {"at": at, "call": 1, "when": "after", "signals": ["SIGTERM"], "pause": 0, "told": told}
    ended = stage.run(WORLDS[world].command, stop=stop)
    assert ended.code == 1
    assert said in ended.err
    listed = json.loads(stage.run(("runs", "--format", "json")).out)
    assert [run["status"] for run in listed] == ["finished" if world == "evaluate" else "interrupted"]


def placed(stage: Stage, kill: Kill) -> dict[str, Any]:
    return {
        "at": kill.moment.at,
        "call": kill.moment.call,
        "when": kill.when,
        "signals": list(kill.signals),
        "pause": PAUSE,
        "told": str(stage.folder / "tmp" / "told"),
    }


def check_ending(stage: Stage, kill: Kill, code: int) -> None:
    """Nothing but SIGKILL keeps a program from ending in order, with nothing left in the temporary folder."""
    first, *others = (-signal.Signals[name] for name in kill.signals)
    if first == -signal.SIGKILL:
        assert code == first
        return
    assert code in {0, 1, *others, *([first] if kill.moment.last else [])}
    assert code == -signal.SIGKILL or list((stage.folder / "tmp").iterdir()) == []


def check_same(stage: Stage, undisturbed: dict[str, Any]) -> None:
    found = state(stage.folder)
    for part, expected in undisturbed.items():
        assert found[part] == expected, part
    workspace = Workspace(stage.folder / "t2i-data")
    with workspace.reading() as session:
        assert pending(session, workspace) == []
