"""Whole numbers as MLflow writes them: its projects know floats only."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from t2i_track.cli import cli
from t2i_track.cli.options import Whole


def integers(command: click.Command, path: tuple[str, ...] = ()) -> list[str]:
    """Options of the command and those below it that take integers in another way than `Whole`."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        below = ((name, command.get_command(context, name)) for name in command.list_commands(context))
        return [found for name, each in below if each is not None for found in integers(each, (*path, name))]
    return [
        " ".join((*path, str(param.name)))
        for param in command.params
        if isinstance(param.type, click.IntRange | click.types.IntParamType) and not param.hidden  # type: ignore[attr-defined]
    ]


def test_every_integer_option_takes_floats_that_are_whole() -> None:
    assert integers(cli) == []


@pytest.mark.parametrize(("text", "number"), [("20.0", 20), ("20", 20), ("2e1", 20), (str(2**63 - 1), 2**63 - 1)])
def test_whole_numbers_are_taken(text: str, number: int) -> None:
    assert Whole().convert(text, None, None) == number


@pytest.mark.parametrize("text", ["20.5", "nan", "inf", "twenty", "", "1e999"])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Whole().convert(text, None, None)


def test_bounds_are_kept() -> None:
    assert Whole(1).convert("1.0", None, None) == 1
    with pytest.raises(click.BadParameter, match="not in the range"):
        Whole(1).convert("0.0", None, None)


def test_a_float_that_is_not_whole_is_a_wrong_command_line() -> None:
    done = CliRunner().invoke(cli, ["generate", "--steps", "20.5"])
    assert done.exit_code == 2
    assert "steps must be a whole number, not '20.5'" in done.output
