"""`t2i generate`: one tracked generation run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from t2i_track.cli.options import (
    PATH,
    blank,
    format_option,
    mark_ai_option,
    settings_options,
    tracking_option,
    workers_options,
    workspace_options,
)
from t2i_track.cli.output import print_lines, print_record
from t2i_track.errors import T2IError
from t2i_track.settings import DECLARED
from t2i_track.texts import clean
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.launch import Outcome


def _read_config(ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Values of an experiment file become the defaults of the options that are not given."""
    if path is not None:
        from t2i_track.runs.grid import load

        experiment = load(path)
        ctx.default_map = {**(ctx.default_map or {}), **_defaults(experiment.single())}
        for name, values in experiment.varied().items():
            if len(values) > 1:
                varied = f"{path} varies {name} over {values}: generate takes the first unless --{name} says otherwise;"
                click.echo(clean(f"{varied} 't2i sweep {path}' runs them all"), err=True)
    return path


def _defaults(values: dict[str, Any]) -> dict[str, Any]:
    """As options take them: one that may be repeated has a list."""
    return {
        name: [value] if name in DECLARED and DECLARED[name].several and isinstance(value, str) else value
        for name, value in values.items()
    }


@click.command()
@click.option(
    "--config", type=PATH, callback=_read_config, is_eager=True, expose_value=False, help="Experiment file (YAML)."
)
@click.option(
    "--manifest",
    "--val-csv",
    callback=blank,
    show_default="the embedded captions",
    help="CSV, TSV, JSON(L), Parquet or TXT.",
)
@click.option("--prompt", "prompts", multiple=True, help="A prompt; may be repeated. Instead of --manifest.")
@settings_options
@click.option("--outdir", type=PATH, show_default="images/ in --home", help="Where the run's own folder is made.")
@mark_ai_option
@click.option("--experiment", show_default="MLFLOW_EXPERIMENT_NAME or _ID, else t2i", help="MLflow experiment.")
@click.option("--run-name", show_default="scheduler, guidance, steps and seed", help="Name of the run.")
@click.option("--resume", metavar="RUN", help="Make what is missing of this run.")
@click.option("--fresh", is_flag=True, help="Make every image anew, also those that earlier runs have made.")
@click.option(
    "--evaluate/--no-evaluate", default=None, show_default="on for embedded captions or --reference", help="Score it."
)
@click.option(
    "--reference", callback=blank, help="What to score against: 'shapes', a folder, a manifest, an .npz, or run:RUN."
)
@click.option("--allow-pickle", is_flag=True, help="Load pickled weights, which can run code.")
@workers_options
@format_option("table", "json")
@tracking_option
@workspace_options
@click.pass_context
def generate(ctx: click.Context, /, workspace: Workspace, **options: Any) -> None:
    """Make images for every prompt of a manifest, as one tracked run.

    \b
      t2i generate --guidance 12 --num 64
      t2i generate --model stable-diffusion-v1-5/stable-diffusion-v1-5 --manifest coco.csv --steps 60
      t2i generate --prompt "two small red stars on a white background" --images-per-prompt 4
      t2i generate --resume latest
    """
    from t2i_track import api

    if options["resume"]:  # a run keeps its settings: only what was typed is held against them
        typed = {name for name in DECLARED if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE}
        options = {name: value for name, value in options.items() if name not in DECLARED or name in typed}
    fmt, prompt = options.pop("fmt"), options.pop("prompts")
    outcome = api.generate(**options, prompt=prompt, home=workspace.home, db_url=workspace.db_url)
    print_outcome(workspace, outcome, fmt)
    if outcome.unscored is not None:
        raise T2IError(outcome.unscored)


def print_outcome(workspace: Workspace, outcome: Outcome, fmt: str) -> None:
    from t2i_track.cli.ended import run_lines

    if fmt == "table":
        print_lines(run_lines(outcome, workspace))
        return
    record = dataclasses.asdict(outcome.summary) | {"notes": outcome.notes}
    if outcome.unscored is not None:
        record |= {"unscored": outcome.unscored}
    print_record(record if outcome.scored is None else record | {"scores": outcome.scored.values()}, fmt)
