"""Runs as data sets: whole or not there, opened by `datasets`, every text as it is, private ones without a word."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import homes_there
import numpy as np
import pytest
from foreign_pictures import a1111
from homes import copy_home
from PIL import Image as PilImage
from PIL.PngImagePlugin import PngInfo
from sqlalchemy.orm import Session
from stored_scores import FID, store_run, store_score

from t2i_track import api, chunks
from t2i_track.db import lineage
from t2i_track.db.models import Image, Run
from t2i_track.errors import TransferError
from t2i_track.images.png import pixels_sha256
from t2i_track.metrics.cache import sha256
from t2i_track.runs import export as exporting
from t2i_track.workspace import Workspace

ODD = (
    "一只猫坐在垫子上", "قطة على سجادة", "a cat 😀", 'a "quoted" cat, \'so\'', "two\nlines\r\nand\ttabs",
    *(() if homes_there.in_use() else ("a NUL \0 in it",)),  # a server holds none
    "x" * 10_000, '=cmd|"/c calc"!A1', "  spaces  ", "\u2028 separators \u2029 \x85",
    "null", "<b>&amp;</b> \\n",
)  # fmt: skip
CLIP = replace(FID, metric="clip", extractor="clip", reference=None, reference_sha256=None, reference_n=None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over odd prompts, one picture of each with texts in it, scored; and an imported one of two pictures."""
    home = tmp_path_factory.mktemp("export") / "home"
    workspace = Workspace(home)
    with workspace.begin() as session:
        run = store_run(session, "odd", num=len(ODD))
        session.query(Image).delete()
        _add(session, workspace, run, ODD)
        store_score(session, run, "clip_score", 30.0, CLIP, images=30.5)
        store_score(session, run, "fid", 3.0)
        other = store_run(session, "imported", guidance=None, steps=None, scheduler=None, origin="a1111",
                          config={"imported": {"folder": "/x"}})  # fmt: skip
        session.query(Image).filter_by(run_id=other.id).delete()
        _add(session, workspace, other, ODD[:2], seed=None)
    return home


def _add(session: Session, workspace: Workspace, run: Run, prompts: tuple[str, ...], **changes: Any) -> None:
    ids = lineage.store_prompts(session, prompts)
    for place, prompt in enumerate(prompts):
        pixels = np.random.default_rng([run.id, place]).integers(0, 256, (16, 24, 3), np.uint8)
        path = workspace.home / "images" / run.name / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        info = PngInfo()
        info.add_itxt("parameters", a1111("a secret prompt", 1, 7)["parameters"], zip=place == 0)
        info.add_text("Software", "a secret prompt")
        PilImage.fromarray(pixels).save(path, pnginfo=info)
        record = {
            "prompt": prompt, "prompt_index": place, "replicate": 0, "seed": 2**62 + place,
            "path": workspace.stored_path(path), "sha256": sha256(path), "pixels_sha256": pixels_sha256(pixels),
            "width": 24, "height": 16, "truncated": False,
        }  # fmt: skip
        lineage.add_images(session, run.id, ids, [record | changes])


def opened(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As `datasets` reads it, without a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(cache))


@pytest.mark.filterwarnings("ignore")  # of datasets and what it imports
@pytest.mark.parametrize("fmt", ["parquet", "imagefolder"])
def test_datasets_opens_it_with_every_text_as_it_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt: str
) -> None:
    found = api.export("odd", "imported", out=tmp_path / "out", format=fmt, home=home)
    assert (found.images, found.runs) == (len(ODD) + 2, 2)
    data = opened(tmp_path / "out", tmp_path / "cache", monkeypatch)
    rows = list(data)
    assert [row["prompt"] for row in rows] == [*ODD, *ODD[:2]]
    assert [row["seed"] for row in rows] == [*(2**62 + place for place in range(len(ODD))), None, None]
    assert {pixels_sha256(np.asarray(row["image"].convert("RGB"))) == row["pixels_sha256"] for row in rows} == {True}
    assert [row["score_clip_score"] for row in rows] == [30.5] * len(ODD) + [None, None]
    assert {row["score_clip_score_protocol"] for row in rows} == {CLIP.fingerprint, None}
    assert [(row["guidance"], row["steps"], row["origin"]) for row in rows[-3:]] == [
        (3.0, 10, None), (None, None, "a1111"), (None, None, "a1111"),
    ]  # fmt: skip
    assert rows[0]["prompt_sha256"] == lineage.text_sha256(ODD[0])
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert FID.fingerprint in card


@pytest.mark.filterwarnings("ignore")
def test_parquet_is_sharded_by_size_and_opens_by_its_builder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = exporting.export(Workspace(home), ["odd"], tmp_path / "out", shard_bytes=5_000)
    assert len(found.files) > 2
    assert found.files[0] == f"data/train-00000-of-{len(found.files):05d}.parquet"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    files = [str(tmp_path / "out" / name) for name in found.files]
    data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["prompt"] for row in data] == list(ODD)
    assert data[3]["image"].size == (24, 16)


def test_a_score_of_several_protocols_has_a_column_for_each(home: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    other = replace(CLIP, weights_sha256="7" * 64)
    with Workspace(home).begin() as session:
        store_score(session, lineage.find_run(session, "odd"), "vqa", 1.0, CLIP, images=1.0)
        store_score(session, lineage.find_run(session, "odd"), "vqa", 2.0, other, images=2.0)
    found = api.export("odd", out=tmp_path / "out", home=home)
    row = pq.read_table(tmp_path / "out" / found.files[0]).to_pylist()[0]
    scores = {name: value for name, value in row.items() if name.startswith("score_vqa_") and "protocol" not in name}
    assert scores == {f"score_vqa_{CLIP.fingerprint[:8]}": 1.0, f"score_vqa_{other.fingerprint[:8]}": 2.0}


@pytest.mark.parametrize("fmt", ["parquet", "imagefolder"])
def test_a_private_one_has_no_word_and_the_same_pixels(home: Path, tmp_path: Path, fmt: str) -> None:
    import pyarrow.parquet as pq

    found = api.export("odd", out=tmp_path / "out", format=fmt, private=True, home=home)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    if fmt == "parquet":
        rows = pq.read_table(tmp_path / "out" / found.files[0]).to_pylist()
        pictures = [row["image"]["bytes"] for row in rows]
    else:
        rows = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text("utf-8").splitlines()]
        pictures = [(tmp_path / "out" / row["file_name"]).read_bytes() for row in rows]
    assert "prompt" not in rows[0]
    assert [row["prompt_sha256"] for row in rows] == [lineage.text_sha256(prompt) for prompt in ODD]
    assert b"secret" not in everything + b"".join(pictures)
    told = json.dumps(rows, ensure_ascii=False, default=repr)
    assert not [prompt for prompt in ODD if prompt != "null" and json.dumps(prompt, ensure_ascii=False)[1:-1] in told]
    for row, content in zip(rows, pictures, strict=True):
        image = PilImage.open(io.BytesIO(content))
        assert pixels_sha256(np.asarray(image)) == row["pixels_sha256"]
        assert image.info == {}


@pytest.mark.parametrize("ending", ["jpg", "webp", "png"])
def test_what_files_say_is_taken_out_and_the_pixels_stay(tmp_path: Path, ending: str) -> None:
    exif = PilImage.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a secret".encode("utf-16-be")
    exif[0x010F] = "prompt:a secret"
    path = tmp_path / f"a.{ending}"
    PilImage.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)).save(path, exif=exif)
    plain = chunks.without_words(path.read_bytes())
    assert b"secret" not in plain
    assert b"s\0e\0c" not in plain
    before, after = (np.asarray(PilImage.open(one)) for one in (path, io.BytesIO(plain)))
    assert (before == after).all()
    assert "exif" not in PilImage.open(io.BytesIO(plain)).info


@pytest.mark.parametrize("content", [b"", b"GIF89a", chunks.SIGNATURE + b"\0\0", b"\xff\xd8\xff\xe1\xff\xff", b"RIFF"])
def test_what_is_no_whole_picture_is_refused(content: bytes) -> None:
    with pytest.raises(chunks.BadChunks):
        chunks.without_words(content)


def test_a_folder_with_something_in_it_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    api.export("odd", out=tmp_path / "out", home=home)
    with pytest.raises(TransferError, match="is not empty: give --out a new folder, nothing is written over"):
        api.export("odd", out=tmp_path / "out", home=home)
    (tmp_path / "file").touch()
    with pytest.raises(TransferError, match="is a file"):
        api.export("odd", out=tmp_path / "file", home=home)


def test_a_picture_that_is_gone_or_another_is_named(home: Path, tmp_path: Path) -> None:
    copy_home(home, tmp_path / "home")
    (tmp_path / "home" / "images" / "odd" / "0.png").unlink()
    PilImage.new("RGB", (24, 16)).save(tmp_path / "home" / "images" / "odd" / "1.png")
    with pytest.raises(TransferError, match=r"0\.png \(No such file or directory\): repair it, or export the rest"):
        api.export("odd", out=tmp_path / "out", home=tmp_path / "home")
    assert not (tmp_path / "out").exists()
    found = api.export("odd", out=tmp_path / "out", skip_bad=True, home=tmp_path / "home")
    assert found.images == len(ODD) - 2
    assert found.left_out[1].endswith("1.png (it is not the picture that was recorded)")


def test_a_killed_export_leaves_nothing_that_looks_whole(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import multiprocessing
    import os
    import signal

    def killed() -> None:
        monkeypatch.setattr(exporting, "_card", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        api.export("odd", out=tmp_path / "out", home=home)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert [path.name[:5] for path in tmp_path.iterdir() if path.is_dir()] == [".out."]
    api.export("odd", out=tmp_path / "out", home=home)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_command_says_what_it_wrote(home: Path, cli: Any, tmp_path: Path) -> None:
    done = cli("export", "imported", "--out", tmp_path / "out", "--home", home)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == f"2 pictures of 1 run -> {tmp_path / 'out'} (parquet)"
    assert cli("export", "imported", "--home", home).code == 2
    assert "no run 'none'" in cli("export", "none", "--out", tmp_path / "x", "--home", home).err
