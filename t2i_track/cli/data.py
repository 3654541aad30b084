"""`t2i data`: manifests and data sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import click

from t2i_track.cli.options import PATH, Whole, format_option
from t2i_track.cli.output import print_record


@click.group()
def data() -> None:
    """Make manifests and data sets."""


@data.command()
@click.option("--images-root", type=PATH, required=True, help="Folder of the COCO images (train2017, val2014, ...).")
@click.option("--annotations", type=PATH, required=True, help="captions_*.json as COCO ships it.")
@click.option("--out-csv", type=PATH, required=True, help="The manifest to write.")
@click.option("--k", type=Whole(), default=1000, help="Captions to draw.")
@click.option("--min-len", type=Whole(), default=5, help="Fewest words of a caption.")
@click.option("--seed", type=Whole(), default=42, help="Of the draw.")
@click.option("--captions-per-image", type=click.Choice(("one", "all")), default="one", help="Captions of one image.")
@click.option("--allow-missing", is_flag=True, help="Keep captions whose image is not under --images-root.")
@format_option("table", "json")
def coco(
    images_root: Path,
    annotations: Path,
    out_csv: Path,
    k: int,
    min_len: int,
    seed: int,
    captions_per_image: Literal["one", "all"],
    allow_missing: bool,
    fmt: str,
) -> None:
    """COCO captions to a manifest (CSV: image_id, caption_id, image_path, caption).

    \b
      t2i data coco --images-root val2017 --annotations annotations/captions_val2017.json --out-csv coco.csv --k 500
    """
    from t2i_track.prompts.coco import sample

    summary = sample(
        annotations,
        images_root,
        out_csv,
        k=k,
        min_len=min_len,
        seed=seed,
        captions_per_image=captions_per_image,
        allow_missing=allow_missing,
    )
    print_record(dataclasses.asdict(summary) | {"manifest": str(out_csv)}, fmt)


@data.command()
@click.option("--out", type=PATH, required=True, help="Folder to write images/ and annotations/ into.")
@click.option("--num", type=Whole(1), default=2048, help="Pictures of each split.")
@click.option("--seed", type=Whole(0), default=0, help="Of the data set; 0 is what the model was trained on.")
@format_option("table", "json")
def shapes(out: Path, num: int, seed: int, fmt: str) -> None:
    """Draw the embedded captioned data set in COCO's own layout.

    \b
      t2i data shapes --out shapes --num 512
    """
    from t2i_track.errors import T2IError
    from t2i_track.shapes import SPLITS, write

    try:
        count = write(out, num, seed)
    except OSError as error:
        raise T2IError(f"cannot write {error.filename or out} ({error.strerror}): choose another --out") from None
    print_record({"pictures": count, "splits": list(SPLITS), "folder": str(out)}, fmt)
