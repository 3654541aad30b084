"""Help texts that list metrics, read from the register when help is printed: importing numpy takes a while."""

from __future__ import annotations

from typing import Any

import click

DECIDES = "the first that can tell the runs apart"
"""The default of ``--by``."""


class MetricsOption(click.Option):
    """``--metrics``, whose help names them all."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from t2i_track.metrics.registry import METRICS

        return _ending(self, ctx, ", ".join(METRICS))


class ScoreOption(click.Option):
    """``--by``, whose help names the scores that have a better end."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from t2i_track.metrics.registry import rankable

        return _ending(self, ctx, ", ".join(rankable()))


def _ending(option: click.Option, ctx: click.Context, words: str) -> tuple[str, str] | None:
    begins = option.help
    option.help = f"{begins} {words}."
    try:
        return click.Option.get_help_record(option, ctx)
    finally:
        option.help = begins


class MetricsCommand(click.Command):
    """A command whose help ends with what each metric says."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from t2i_track.metrics.registry import METRICS

        rows: list[tuple[str, Any]] = []
        for metric in METRICS.values():
            whole = [info for info in metric.scores if info.direction and not info.part]
            said = [f"{info.words} ({info.direction} is better)" for info in whole]
            rows.append((metric.word, "; ".join(said) + ("" if metric.default else "; only where named")))
        with formatter.section("Metrics"):
            formatter.write_dl(rows)
