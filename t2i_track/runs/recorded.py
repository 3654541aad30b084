"""The pictures of a run as its rows recorded them, and whether their files are still these."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from t2i_track.db.models import Image, Run
from t2i_track.metrics.inputs import ImageItem
from t2i_track.workspace import Workspace


def run_items(session: Session, workspace: Workspace, run: Run) -> list[ImageItem]:
    """In the order of their prompts; what there is of a run that is not finished."""
    images = session.scalars(
        select(Image)
        .where(Image.run_id == run.id)
        .options(joinedload(Image.prompt))
        .order_by(Image.prompt_index, Image.replicate)
    )
    return [item_of(workspace, image) for image in images]


def item_of(workspace: Workspace, image: Image) -> ImageItem:
    return ImageItem(
        path=workspace.image_path(image),
        sha256=image.pixels_sha256,
        prompt=image.prompt.text,
        prompt_index=image.prompt_index,
        replicate=image.replicate,
        key=image.id,
        file_sha256=image.sha256,
    )
