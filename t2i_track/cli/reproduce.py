"""`t2i reproduce`: one image again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from t2i_track.cli.options import PATH, format_option, workspace_options
from t2i_track.cli.output import print_record
from t2i_track.errors import T2IError
from t2i_track.workspace import Workspace


@click.command()
@click.argument("image")
@click.option("--out", type=PATH, help="Write the new picture here (PNG).")
@click.option("--model", show_default="where a run had them", help="Where the same weights are now: a folder or an id.")
@click.option("--lora", multiple=True, show_default="where a run had it", help="Where the same LoRA is now.")
@click.option("--embedding", multiple=True, show_default="where a run had it", help="Where the same embedding is now.")
@click.option("--vae", show_default="where a run had it", help="Where the same VAE is now that replaced the model's.")
@click.option("--model-config", show_default="where a run had it", help="What the model is, where --model is one file.")
@click.option("--device", show_default="as recorded", help="cpu, cuda, cuda:1, mps.")
@click.option("--allow-pickle", is_flag=True, help="Load pickled weights, which can run code.")
@format_option("table", "json")
@workspace_options
def reproduce(
    workspace: Workspace,
    image: str,
    out: Path | None,
    model: str | None,
    lora: tuple[str, ...],
    embedding: tuple[str, ...],
    vae: str | None,
    model_config: str | None,
    device: str | None,
    allow_pickle: bool,
    fmt: str,
) -> None:
    """Make one image again from its record and compare: exit 1 where it comes out otherwise.

    IMAGE is an id, a path or a prefix of a hash; a PNG of ours needs no database, since it carries its record.

    \b
      t2i reproduce t2i-data/images/0123456789ab/000012-3141592653.png --out again.png
    """
    from t2i_track import api

    found = api.reproduce(
        image,
        model=model,
        lora=lora or None,
        embedding=embedding or None,
        vae=vae,
        model_config=model_config,
        device=device,
        out=out,
        allow_pickle=allow_pickle,
        home=workspace.home,
        db_url=workspace.db_url,
    )
    print_record(dataclasses.asdict(found), fmt)
    if not found.close:
        reason = "; ".join(found.notes) or "versions and device are as recorded"
        raise T2IError(f"image {image} came out otherwise ({reason})")
