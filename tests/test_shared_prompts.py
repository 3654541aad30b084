"""Runs over different prompts, measured on those that all have, so that a distance can be compared."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from t2i_track import api, shapes
from t2i_track.db.models import MetricValue, Run
from t2i_track.errors import CompareError, MetricError
from t2i_track.metrics.prompts import Prompts
from t2i_track.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def places(workspace: Workspace, tracking_uri: str) -> dict[str, Any]:
    return {"home": workspace.home, "tracking_uri": tracking_uri}


def test_distances_are_measured_on_the_prompts_that_runs_share(workspace: Workspace, places: dict[str, Any]) -> None:
    texts = [str(row["caption"]) for row in shapes.manifest_rows("val", 24)]
    made = {"steps": 2, "evaluate": False, **places}
    long = api.generate(prompt=texts, guidance=3, run_name="long", **made).summary.run
    short = api.generate(prompt=texts[8:], guidance=5, run_name="short", **made).summary.run
    api.evaluate(long, short, metrics="fid,alignment", **places)
    apart = api.compare(by="fid", home=workspace.home)
    assert [entry.row.name for entry in apart.ranking] == ["short"]
    (left_out,) = apart.excluded
    command = f"`t2i evaluate {long[:8]} {short[:8]} --metrics fid --shared-prompts`"
    assert left_out.reason.endswith(f"; {command} measures them on the prompts that both have")
    api.evaluate(long[:8], short[:8], metrics="fid", shared_prompts=True, **places)
    together = api.compare(by="fid", home=workspace.home)
    assert sorted(entry.row.name for entry in together.ranking) == ["long", "short"]
    assert together.excluded == ()
    with workspace.reading() as session:
        query = select(MetricValue).join(Run).where(MetricValue.name == "fid").order_by(MetricValue.id)
        *_, one, other = session.scalars(query)
        assert (one.n, other.n) == (16, 16)
        assert one.prompts_sha256 == other.prompts_sha256 == Prompts.of(texts[8:]).sha256
        assert one.protocol.fingerprint == other.protocol.fingerprint
    known = api.evaluate(long, short, metrics="fid", shared_prompts=True, **places)
    assert [run.measured for run in known.runs] == [0, 0]
    fewer = api.generate(prompt=texts[:12], guidance=7, run_name="fewer", **made).summary.run
    api.evaluate(long, fewer, metrics="fid", shared_prompts=True, **places)
    with workspace.reading() as session:  # another set is another protocol
        values = session.scalars(select(MetricValue).join(Run).where(MetricValue.name == "fid", Run.uuid == long)).all()
        assert [value.n for value in values] == [24, 16, 12]


def test_what_shares_nothing_is_refused(workspace: Workspace, places: dict[str, Any]) -> None:
    made = {"steps": 2, "evaluate": False, **places}
    one = api.generate(prompt="a red circle", **made).summary.run
    other = api.generate(prompt="a blue star", **made).summary.run
    with pytest.raises(MetricError, match="is of several runs"):
        api.evaluate(one, metrics="alignment", shared_prompts=True, **places)
    with pytest.raises(MetricError, match="no prompt is in all of these 2 runs"):
        api.evaluate(one, other, metrics="alignment", shared_prompts=True, **places)
    with pytest.raises(CompareError):
        api.compare(by="fid", home=workspace.home)
