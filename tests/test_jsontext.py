"""What programs read holds no word that JSON has not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranking_rows import constant, run
from stored_scores import store_run, store_score
from test_ranking_pair import A, B

from t2i_track.cli import cli
from t2i_track.cli.pair_formats import pair_json
from t2i_track.jsontext import json_text
from t2i_track.metrics.uncertainty import Interval
from t2i_track.ranking import compare, compare_two
from t2i_track.ranking.describe import as_json
from t2i_track.workspace import Workspace


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


@given(values)
def test_every_value_is_read_back_but_for_what_is_no_number(value: Any) -> None:
    assert strict(json_text(value)) == plain(value)


def test_what_databases_hold() -> None:
    found = [
        b"\x01\xff",
        memoryview(b"a"),
        Decimal("1.5"),
        Decimal("Infinity"),
        date(2026, 1, 2),
        time(1, 2),
        UUID(int=1),
    ]
    assert strict(json_text([*found, timedelta(seconds=1)])) == [
        *("01ff", "61", 1.5, None, "2026-01-02", "01:02:00", "00000000-0000-0000-0000-000000000001", "0:00:01"),
    ]


def test_times_and_paths_are_texts() -> None:
    told = {"time": datetime(2026, 1, 2, tzinfo=UTC), "path": Path("a/b"), "pair": (1, math.inf)}
    assert strict(json_text(told)) == {"time": "2026-01-02T00:00:00+00:00", "path": "a/b", "pair": [1, None]}


@pytest.mark.parametrize("value", [1.5, math.nan])
def test_mappings_that_are_no_dict(value: float) -> None:
    assert strict(json_text(MappingProxyType({"a": [value]}))) == {"a": [plain(value)]}


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "infinite"],
        pytest.param(
            ["db", "query", "SELECT 9e999 AS huge, -9e999 AS low"],
            marks=pytest.mark.sqlite_only("which takes it for infinite, a server for a number of 1000 digits"),
        ),
        ["db", "query", "SELECT value FROM metric_values"],
        ["db", "query", "SELECT x'00ff' AS bytes, NULL AS gone"],
        ["runs"],
    ],
)
def test_commands_print_null(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path)
    with workspace.begin() as session:
        stored = store_run(session, "infinite", seconds_per_image=math.inf)
        stored.environment = {"numbers": [math.inf, 1.0]}
        store_score(session, stored, "fid", math.inf)
    cli.main([*arguments, "--format", "json", "--home", str(tmp_path)], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "null" in printed
    strict(printed)


def test_a_ranking_and_a_pair_are_strict_too() -> None:
    endless = Interval(1.0, -math.inf, math.inf, math.nan, math.nan)
    found = compare([run(name, {"fid": constant("fid", value)}) for name, value in (("a", 1.0), ("b", 2.0))], "fid")
    assert strict(as_json(replace(found, best=endless)))["best"]["high"] is None
    pair = compare_two(A, B)
    changed = replace(pair, metrics=tuple(replace(one, change=endless) for one in pair.metrics))
    assert strict(pair_json(changed))["metrics"][0]["change"]["low"] is None
