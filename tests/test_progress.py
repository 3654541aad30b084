from __future__ import annotations

import sys

import pytest

from t2i_track import progress as bars


def test_a_log_file_gets_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(bars._Log, "told", now[0])
    with bars.progress("a run", 1000, 200) as show:
        for done in range(210, 1001, 10):
            now[0] += 5.0
            show(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["a run: 260/1000 images, 2/s, 6:10 left", "a run: 320/1000 images, 2/s, 5:40 left"]
    assert len(lines) == 400 // 30


def test_a_line_in_the_first_second_gives_no_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bars._Log, "told", bars.time.monotonic() - bars.LOG_SECONDS)
    with bars.progress("features", 2060) as report:
        report(16)
    assert capsys.readouterr().err == "features: 16/2060 images\n"


def test_many_short_runs_are_not_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [1000.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(bars._Log, "told", now[0])
    for cell in range(5):
        with bars.progress(f"cell {cell}", 4) as show:
            for done in (2, 4):
                now[0] += 10.0
                show(done)
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["cell 1", "cell 2", "cell 4"]


def test_work_that_is_short_says_nothing_in_a_log_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bars._Log, "told", bars.time.monotonic())
    with bars.progress("a run", 3) as show:
        for done in (1, 2, 3):
            show(done)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with bars.progress("[red]run", 40, 8) as show:
        show(24)
    shown = capsys.readouterr().err
    assert "[red]run" in shown
    assert "24/40" in shown
    assert "/s" in shown
    assert shown.endswith("\x1b[2K")  # gone when the work has ended


@pytest.mark.parametrize(("rate", "text"), [(0.0512, "0.0512/s"), (4.848, "4.85/s"), (1433.0, "1433/s")])
def test_rates(rate: float, text: str) -> None:
    assert bars.speed(rate) == text


@pytest.mark.parametrize(("seconds", "text"), [(4.6, "0:05"), (750.0, "12:30"), (10931, "3:02:11")])
def test_times_left_read_as_a_clock(seconds: float, text: str) -> None:
    assert bars.clock(seconds) == text
