"""`t2i cache`: what may be thrown away."""

from __future__ import annotations

import dataclasses
import re

import click

from t2i_track.cli.options import format_option, workspace_options
from t2i_track.cli.output import print_record
from t2i_track.workspace import Workspace

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Bytes(click.ParamType[int]):
    """A size such as 500MB, 2G or 0."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", str(value).strip().lower())
        if found is None:
            self.fail(f"'{value}' is not a size: write 0, 500MB or 2GB", param, ctx)
        return int(float(found[1]) * _UNITS[found[2]])


@click.group()
def cache() -> None:
    """The cache of features and reference sets, all of which can be made again."""


@cache.command()
@click.option("--max-size", type=Bytes(), default="2GB", help="Keep at most so much, the most recently used.")
@format_option("table", "json")
@workspace_options
def prune(workspace: Workspace, max_size: int, fmt: str) -> None:
    """Delete the features that were not used for longest, down to a size."""
    from t2i_track.metrics.cache import prune_cache

    print_record(dataclasses.asdict(prune_cache(workspace.cache, max_size)), fmt)
