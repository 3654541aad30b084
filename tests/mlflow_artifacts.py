"""What the tests of tracking send to MLflow, and find there."""

from __future__ import annotations

from datetime import UTC, datetime

from mlflow import MlflowClient
from PIL import Image

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def picture() -> Image.Image:
    return Image.new("RGB", (2048, 512))


def artifacts(client: MlflowClient, run: str, folder: str | None = None) -> dict[str, int | None]:
    """Paths and sizes of all artifacts of a run."""
    found: dict[str, int | None] = {}
    for entry in client.list_artifacts(run, folder):
        found |= artifacts(client, run, entry.path) if entry.is_dir else {entry.path: entry.file_size}
    return found
