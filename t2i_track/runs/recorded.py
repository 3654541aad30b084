"""The pictures of a run as its rows recorded them, and whether their files are still these."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db.models import Image, Prompt, Run
from t2i_track.metrics.inputs import ImageItem
from t2i_track.workspace import Workspace


def run_items(session: Session, workspace: Workspace, run: Run) -> list[ImageItem]:
    """In the order of their prompts; what there is of a run that is not finished."""
    columns = (
        Image.id,
        Image.path,
        Image.sha256,
        Image.pixels_sha256,
        Image.prompt_index,
        Image.replicate,
        Prompt.text,
    )
    query = select(*columns).join(Image.prompt).where(Image.run_id == run.id)
    # Columns: to make an object of each of 30,000 rows takes ten times as long as reading them.
    return [
        ImageItem(
            path=workspace.home / path,
            sha256=pixels,
            prompt=prompt,
            prompt_index=index,
            replicate=replicate,
            key=key,
            file_sha256=file,
        )
        for key, path, file, pixels, index, replicate, prompt in session.execute(
            query.order_by(Image.prompt_index, Image.replicate)
        )
    ]


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
