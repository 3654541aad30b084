"""`t2i doctor`: what is wrong with this machine."""

from __future__ import annotations

import click

from t2i_track.cli.options import format_option, tracking_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.errors import T2IError
from t2i_track.workspace import Workspace


@click.command()
@format_option("table", "json", "markdown")
@tracking_option
@workspace_options
def doctor(workspace: Workspace, tracking_uri: str | None, fmt: str) -> None:
    """Check versions, device, model, database, MLflow and metric weights; exit 1 when a run could not be made."""
    from t2i_track.runs.doctor import check

    findings = check(workspace, tracking_uri)
    print_rows([vars(finding) for finding in findings], fmt, columns=("check", "status", "detail"))
    broken = [finding.check for finding in findings if finding.status == "broken"]
    if broken:
        raise T2IError(f"{', '.join(broken)} must be put right before a run can be made")
