"""Short memory: what changes nothing is done first, what changes pixels is told on their rows and done again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

from t2i_track import api
from t2i_track.db.models import Image
from t2i_track.images import batch_size, memory, png
from t2i_track.images.decoding import Note, decoding_of, has
from t2i_track.images.encoding import PromptEncoder
from t2i_track.images.loading import LoadedPipeline
from t2i_track.images.memory import Decoding
from t2i_track.images.sampling import Picture, jobs, sample
from t2i_track.images.schedulers import set_scheduler
from t2i_track.runs.reproduce import reproduce
from t2i_track.settings import Settings
from t2i_track.workspace import Workspace

JOBS = list(jobs(["one big red circle", "two small blue stars", "a green cross"], 42, 1))
FULL = torch.OutOfMemoryError("CUDA out of memory")


def settled(loaded: LoadedPipeline, **chosen: Any) -> Settings:
    settings = Settings(**{"steps": 2, "scheduler": "ddim", "height": 64, "width": 64, "batch_size": 2, **chosen})
    set_scheduler(loaded.pipe, loaded.configs["scheduler"], settings)
    return settings


def made(loaded: LoadedPipeline, how: Decoding = Decoding.WHOLE, **chosen: Any) -> list[Picture]:
    settings = settled(loaded, **chosen)
    return list(sample(loaded.pipe, PromptEncoder(loaded.pipe, settings), JOBS, settings, how))


def pixels(pictures: list[Picture]) -> np.ndarray[Any, Any]:
    return np.array([picture.pixels for picture in pictures], dtype=int)


def decoding_only(way: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Whole batches, and with ``use_tiling`` whole pictures too, do not fit into memory any more."""
    from diffusers import AutoencoderKL

    decode, tried = AutoencoderKL.decode, []

    def full(vae: Any, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        tried.append(len(latents))
        if not getattr(vae, way):
            raise FULL
        return decode(vae, latents, *args, **kwargs)

    monkeypatch.setattr(AutoencoderKL, "decode", full)
    return tried


@pytest.fixture
def small_tiles(pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The embedded model's pictures are smaller than its decoder's tiles."""
    vae = pipeline.pipe.vae
    monkeypatch.setattr(vae, "tile_latent_min_size", vae.tile_latent_min_size // 2)
    monkeypatch.setattr(vae, "tile_sample_min_size", vae.tile_sample_min_size // 2)
    yield
    assert not vae.use_slicing
    assert not vae.use_tiling


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("way", "note", "most"), [("use_slicing", Note.SLICED, 2), ("use_tiling", Note.TILED, 255)])
def test_what_cannot_be_decoded_at_once_is_decoded_in_parts_and_says_so(
    way: str, note: Note, most: int, pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(pipeline)
    tried = decoding_only(way, monkeypatch)
    found = made(pipeline)
    assert {(picture.note, picture.batch_size) for picture in found} == {(note, None)}
    # The second batch is not tried whole again.
    assert len(tried) == 2 + list(Decoding).index(decoding_of(note))
    difference = abs(pixels(found) - pixels(whole)).max()
    assert difference <= most
    assert (difference > 2) == (note is Note.TILED)
    monkeypatch.undo()


def test_a_batch_may_be_halved_and_decoded_in_parts(pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = pipeline.pipe.unet.forward

    def full(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(sample) > 4:
            raise FULL
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(pipeline.pipe.unet, "forward", full)
    decoding_only("use_slicing", monkeypatch)
    found = made(pipeline, batch_size=4)
    assert {picture.note for picture in found} == {f"{Note.HALVED}; {Note.SLICED}"}
    assert {picture.batch_size for picture in found} == {2}
    assert has(found[0].note, Note.HALVED)
    assert has(found[0].note, Note.SLICED)
    assert not has(found[0].note, Note.TILED)


def test_no_size_is_found_out_that_cannot_be_decoded(pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import AutoencoderKL

    decode = AutoencoderKL.decode

    def full(vae: Any, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(latents) > 2 and not vae.use_slicing:
            raise FULL
        return decode(vae, latents, *args, **kwargs)

    monkeypatch.setattr(AutoencoderKL, "decode", full)
    monkeypatch.setattr(batch_size, "GAIN", 0.0)
    assert batch_size.largest(pipeline.pipe, settled(pipeline), 8) == 2


def encoders_wait(loaded: LoadedPipeline, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The network fits into memory only beside no text encoder; whether it was there, each time."""
    forward, there = loaded.pipe.unet.forward, []

    def full(*args: Any, **kwargs: Any) -> Any:
        there.append(loaded.pipe.text_encoder is not None)
        if there[-1]:
            raise FULL
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded.pipe.unet, "forward", full)
    return there


def test_text_encoders_wait_where_memory_is_short_and_come_back(
    pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, encoder = made(pipeline), pipeline.pipe.text_encoder
    monkeypatch.setattr(memory, "_is_on_gpu", lambda part: True)
    there = encoders_wait(pipeline, monkeypatch)
    for _ in range(2):  # and for the next cell of a sweep
        found = made(pipeline)
        assert (pixels(found) == pixels(expected)).all()
        assert {(picture.note, picture.batch_size) for picture in found} == {(None, None)}
        assert pipeline.pipe.text_encoder is encoder
    assert there.count(True) == 2
    assert all(not parameter.is_inference() for parameter in encoder.parameters())


def test_room_for_decoding_is_made_before_anything_is_changed(
    pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import AutoencoderKL

    expected, decode = made(pipeline), AutoencoderKL.decode
    monkeypatch.setattr(memory, "_is_on_gpu", lambda part: True)

    def full(*args: Any, **kwargs: Any) -> Any:
        if pipeline.pipe.text_encoder is not None:
            raise FULL
        return decode(*args, **kwargs)

    monkeypatch.setattr(AutoencoderKL, "decode", full)
    found = made(pipeline)
    assert (pixels(found) == pixels(expected)).all()
    assert {picture.note for picture in found} == {None}


def test_text_encoders_of_a_cpu_stay(pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    from t2i_track.errors import ModelError

    there = encoders_wait(pipeline, monkeypatch)
    with pytest.raises(ModelError, match="one picture of 64 x 64 does not fit"):
        made(pipeline)
    assert there == [True, True]  # whole and halved


def test_what_was_done_is_stored_told_and_done_again(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(home=tmp_path / "home")
    with monkeypatch.context() as short:
        decoding_only("use_tiling", short)
        outcome = api.generate(
            prompt=["a red circle", "a blue star"], steps=2, evaluate=False, height=96, width=96, device="cpu",
            home=workspace.home, tracking_uri=tracking_uri,
        )  # fmt: skip
    assert outcome.summary.tiled == 2
    assert outcome.notes == [
        "2 of 2 images were decoded in tiles, which moves their pixels: whole they did not fit in memory"
    ]
    with workspace.reading() as session:
        images = list(session.scalars(select(Image)))
        path = workspace.image_path(images[0])
    assert {image.note for image in images} == {Note.TILED}
    record: Any = png.read_record(path)
    assert record["note"] == Note.TILED
    assert reproduce(workspace, str(images[1].id)).equal
    plain = tmp_path / "plain.png"
    plain.write_bytes(png.encode(png.read_pixels(path), {**record, "note": ["no", "text"]}))
    assert not reproduce(Workspace(home=tmp_path / "none"), str(plain)).equal
