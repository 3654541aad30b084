"""`t2i doctor`: what is wrong with this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.options import format_option, tracking_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.errors import T2IError
from t2i_track.settings import DTYPES
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.doctor import Finding


@click.command()
@click.option("--model", help="Say what this model is and needs instead: a folder, a checkpoint or a Hugging Face id.")
@click.option("--revision", show_default="the newest", help="Branch, tag or commit of a Hugging Face id.")
@click.option("--model-config", help="What a checkpoint is, as of generate.")
@click.option("--variant", help="Which of its weight files, as of generate.")
@click.option("--dtype", type=click.Choice(DTYPES), show_default="fp16 on CUDA, else fp32", help="Precision.")
@click.option("--allow-pickle", is_flag=True, help="Take pickled weights for weights.")
@format_option("table", "json", "markdown")
@tracking_option
@workspace_options
def doctor(
    workspace: Workspace, tracking_uri: str | None, fmt: str, model: str | None, allow_pickle: bool, **chosen: Any
) -> None:
    """Check versions, device, model, database, MLflow and metric weights; exit 1 when a run could not be made.

    \b
      t2i doctor
      t2i doctor --model stabilityai/stable-diffusion-xl-base-1.0   # before it is downloaded
    """
    from t2i_track.runs.doctor import check

    if model is None and any(value is not None for value in chosen.values()):
        given = ", ".join(f"--{name.replace('_', '-')}" for name, value in chosen.items() if value is not None)
        raise click.UsageError(f"{given} is of a model: give --model")
    findings = check(workspace, tracking_uri) if model is None else _of_model(model, chosen, allow_pickle)
    print_rows([vars(finding) for finding in findings], fmt, columns=("check", "status", "detail"))
    broken = [finding.check for finding in findings if finding.status == "broken"]
    if broken:
        raise T2IError(f"{', '.join(broken)} must be put right before a run can be made")


def _of_model(model: str, chosen: dict[str, Any], allow_pickle: bool) -> list[Finding]:
    from t2i_track.runs.doctor import check_model
    from t2i_track.settings import Settings

    return check_model(Settings(model=model, **chosen), allow_pickle)
