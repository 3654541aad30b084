"""Runs in a database with scores under several protocols, made without a model or a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Image, Run, RunStatus
from t2i_track.metrics.protocol import ProtocolRecord, digest

PROMPTS = ("a red circle", "a blue star")
FID = ProtocolRecord(
    "fid", "shapes", "2" * 64, "features", "64x64 bilinear, then its own", len(PROMPTS), "shapes", "3" * 64, 2048
)
"""As the tests' runs are measured, where nothing else is said."""


def store_run(session: Session, name: str, **changes: Any) -> Run:
    """A finished run of an image a prompt."""
    model = lineage.store_model(session, name="shapes", revision="", weights_sha256="0" * 64, pipeline_class="none")
    manifest = lineage.store_manifest(
        session, name="made up", sha256="1" * 64, entries=[{"prompt": prompt} for prompt in PROMPTS]
    )
    values: dict[str, Any] = {
        "guidance": 3.0, "steps": 10, "scheduler": "pndm", "scheduler_config": {}, "negative_prompt": "", "lora": None,
        "height": 64, "width": 64, "dtype": "fp32", "device": "cpu", "batch_size": 8, "base_seed": 1,
        "num": len(PROMPTS), "images_per_prompt": 1, "settings_sha256": digest(name), "config": {}, "environment": {},
        "seconds_per_image": 0.1, "experiment": "e", **changes,
    }  # fmt: skip
    run = Run(
        uuid=digest(name)[:32], name=name, status=RunStatus.FINISHED, model=model, manifest=manifest,
        **values,
    )  # fmt: skip
    session.add(run)
    session.flush()
    prompts = {entry.prompt.text: entry.prompt_id for entry in manifest.entries}
    lineage.add_images(session, run.id, prompts, (
        {
            "prompt": prompt, "prompt_index": place, "replicate": 0, "seed": place, "path": f"{name}/{place}.png",
            "sha256": digest([name, place]), "pixels_sha256": digest([name, place, "pixels"]), "width": 64,
            "height": 64, "tokens": 5, "truncated": False, "flagged": False, "seconds": 0.1,
        }
        for place, prompt in enumerate(PROMPTS)
    ))  # fmt: skip
    return run


def pictures_sha256(run: Run, *word: str) -> str:
    """What its pictures are called as a reference: with ``"pixels"`` as a run, without as a folder of files."""
    return digest([digest([run.name, place, *word]) for place in range(len(PROMPTS))])


def store_score(
    session: Session,
    run: Run,
    name: str,
    value: float,
    how: ProtocolRecord = FID,
    images: float | None = None,
    prompts: str | None = None,
) -> None:
    """A score, and with ``images`` that of each single image; ``prompts``: hash of those that were scored."""
    record: Mapping[str, Any] = {field: getattr(how, field) for field in ProtocolRecord.__dataclass_fields__}
    protocol = lineage.store_protocol(session, how.fingerprint, record)
    lineage.store_value(
        session, run, name, protocol, {"value": value, "n": how.n, "replicates": None, "prompts_sha256": prompts}
    )
    session.flush()
    if images is not None:
        ids = session.scalars(select(Image.id).where(Image.run_id == run.id))
        lineage.store_image_scores(session, name, protocol, dict.fromkeys(ids, images))
