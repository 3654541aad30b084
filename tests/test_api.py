"""The public functions: what is exported, how arguments are named, and what they return."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import click
import pandas as pd
import pytest

import t2i_track
from t2i_track.cli import cli as commands
from t2i_track.errors import CompareError, SettingsError
from t2i_track.settings import DECLARED

ROOT = Path(__file__).resolve().parents[1]
RENAMED = {"prompts": "prompt", "zipped": "zip", "weights": "extractor_weights"}
"""What a command calls an option inside."""
PRINTING = {"fmt", "config"}
"""Options of the command line alone."""


def test_exported_members() -> None:
    names = [
        "compare",
        "copy_database",
        "evaluate",
        "export",
        "generate",
        "import_pictures",
        "open_database",
        "plan",
        "reproduce",
        "sweep",
    ]
    assert t2i_track.__all__ == names
    assert set(t2i_track.__all__) <= set(dir(t2i_track))
    assert all(callable(getattr(t2i_track, name)) for name in t2i_track.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'generat'"):
        t2i_track.generat  # noqa: B018


@pytest.mark.parametrize("name", ["compare", "evaluate", "export", "generate", "plan", "reproduce", "sweep"])
def test_arguments_are_named_as_the_options_are(name: str) -> None:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    shown = [one for one in command.params if not getattr(one, "hidden", False)]  # hidden: for MLproject
    options = {RENAMED.get(str(one.name), str(one.name)) for one in shown} - PRINTING
    assert set(inspect.signature(getattr(t2i_track, name)).parameters) == options


def test_settings_stand_in_the_signature() -> None:
    parameters = inspect.signature(t2i_track.generate).parameters
    assert [name for name in parameters if name in DECLARED] == list(DECLARED)
    assert parameters["guidance"].default == 7.5


def test_importing_the_package_costs_nothing() -> None:
    heavy = ("numpy", "click", "sqlalchemy", "torch")
    code = f"import sys, t2i_track; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^unknown setting 'guidence'; did you mean 'guidance'\?$"):
        t2i_track.generate(guidence=3, home=tmp_path)
    with pytest.raises(SettingsError, match="unknown setting 'guidence'; did you mean 'guidance'"):
        t2i_track.sweep(guidence=3, home=tmp_path)


@pytest.mark.slow
def test_a_session_in_python(tmp_path: Path, tracking_uri: str) -> None:
    where = {"home": tmp_path / "home", "tracking_uri": tracking_uri}
    swept = t2i_track.sweep(guidance=[1, 3], steps=2, num=12, device="cpu", experiment="api", by="alignment", **where)
    frame = swept.to_frame()
    assert list(frame.guidance) == [entry.row.guidance for entry in swept.comparison.ranking]
    assert set(frame.guidance) == {1.0, 3.0}
    again = t2i_track.sweep(guidance=[1, 3], steps=2, num=12, device="cpu", experiment="api", dry_run=True, **where)
    assert list(again.to_frame().made) == [12, 12]

    failed = t2i_track.sweep(guidance=[1, 3], model=str(tmp_path / "gone"), num=2, experiment="api", **where)
    assert [cell.state for cell in failed.outcome.cells] == ["failed", "failed"]
    assert (failed.comparison, failed.reason) == (None, "no cell was made"), "not the other runs of the home"

    made = t2i_track.generate(guidance=5, steps=2, num=12, device="cpu", experiment="api", evaluate=False, **where)
    assert made.summary.images == 12
    assert made.scored is None
    scored = t2i_track.evaluate(made.summary.run, metrics="fid,alignment", reference="shapes", **where)
    assert {"fid", "alignment"} <= set(scored.to_frame().name)
    with pytest.raises(SettingsError, match="was made with guidance 5"):
        t2i_track.generate(resume=made.summary.run, guidance=4, **where)

    ranked = t2i_track.compare(experiment="api", by="alignment", home=where["home"])
    assert len(ranked.ranking) == 3
    assert "<table>" in ranked._repr_html_()
    with t2i_track.open_database(where["home"]) as session:
        from t2i_track.db.models import Image

        path = where["home"] / session.query(Image).order_by(Image.id).first().path
    reproduced = t2i_track.reproduce(path, home=where["home"])
    assert reproduced.equal
    assert isinstance(reproduced.to_frame(), pd.DataFrame)
    pair = t2i_track.compare(ranked.ranking[0].row.run, ranked.ranking[1].row.run, home=where["home"])
    assert "differ in: guidance" in pair._repr_html_()
    with pytest.raises(CompareError, match="exactly two runs"):
        t2i_track.compare(experiment="api", picture=tmp_path / "x.png", home=where["home"])
