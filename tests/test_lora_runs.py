"""Runs, sweeps and reproductions with LoRAs and embeddings: their scales, files and notes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from homes import forget_database
from safetensors.torch import load_file, save_file
from sqlalchemy import select

import t2i_track
from t2i_track import shapes
from t2i_track.db.models import Image, Run
from t2i_track.errors import ModelError, SettingsError
from t2i_track.images import png
from t2i_track.images.executors import worker as making
from t2i_track.images.loading import load
from t2i_track.ranking.describe import ranked
from t2i_track.runs import compare as comparing
from t2i_track.runs import generate as generation
from t2i_track.runs import sweep as sweeping
from t2i_track.runs.grid import build
from t2i_track.runs.launch import Outcome
from t2i_track.runs.reproduce import reproduce
from t2i_track.runs.rows import run_rows
from t2i_track.runs.show import record_of
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

pytestmark = pytest.mark.slow

PROMPTS = [str(row["caption"]) for row in shapes.manifest_rows("val", 3)]
QUICK = {"steps": 2, "batch_size": 3, "device": "cpu", "guidance": 3.0, "scheduler": "ddim"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random LoRAs for the U-Net (``a``) and for both networks (``b``), and embeddings of one and two vectors."""
    folder, pipe = tmp_path_factory.mktemp("files"), load(Settings(device="cpu")).pipe
    generator = torch.Generator().manual_seed(0)
    for name, components in (("a", ["unet"]), ("b", ["unet", "text_encoder"])):
        tensors = {}
        for component in components:
            for layer, module in getattr(pipe, component).named_modules():
                if layer.endswith(("to_q", "to_v", "to_out.0", "q_proj", "v_proj")):
                    out, inner = module.weight.shape
                    tensors[f"{component}.{layer}.lora_A.weight"] = torch.randn(4, inner, generator=generator) * 0.2
                    tensors[f"{component}.{layer}.lora_B.weight"] = torch.randn(out, 4, generator=generator) * 0.2
        save_file(tensors, folder / f"{name}.safetensors")
    part = load_file(folder / "a.safetensors")
    part |= {f"unet.nowhere.lora_{half}.weight": torch.ones(2, 2) for half in "AB"}
    save_file(part, folder / "part.safetensors")
    width = pipe.text_encoder.config.hidden_size
    save_file({"<cat>": torch.randn(2, width, generator=generator)}, folder / "cat.safetensors")
    save_file({"emb_params": torch.randn(1, width, generator=generator)}, folder / "doggo.safetensors")
    return folder


def generate(workspace: Workspace, tracking_uri: str, prompts: Sequence[str] = PROMPTS, **settings: Any) -> Outcome:
    where: dict[str, Any] = {"home": workspace.home, "tracking_uri": tracking_uri, "experiment": "tests"}
    return t2i_track.generate(prompt=prompts, evaluate=False, **where, **QUICK | settings)


def pixels(workspace: Workspace, run: str) -> np.ndarray[Any, Any]:
    with workspace.reading() as session:
        query = select(Image).join(Run).where(Run.uuid == run).order_by(Image.prompt_index)
        paths = [workspace.image_path(image) for image in session.scalars(query)]
    return np.stack([png.read_pixels(path).astype(int) for path in paths])


def sweep(workspace: Workspace, tracker: Tracker, **changes: Any) -> Any:
    held = {"name": "s", "experiment": "tests", "prompts": PROMPTS, "evaluate": False}
    return sweeping.run_sweep(workspace, tracker, build({**held, **changes}, "test"), fresh=False, allow_pickle=False)


def test_an_effect_grows_with_its_scale(
    files: Path, workspace: Workspace, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One load for all scales, each as a fresh load would make it; at 0 as without; compare ranks them."""
    loads: list[Any] = []
    original = making.load
    monkeypatch.setattr(making, "load", lambda settings, **more: loads.append(settings) or original(settings, **more))
    held = {**QUICK, "lora": str(files / "b.safetensors")}
    outcome = sweep(workspace, tracker, settings=held, axes={"lora_scale": [1, 0, 0.5]})
    assert [cell.error for cell in outcome.cells] == [None] * 3
    assert len(loads) == 1
    made = {cell.settings.lora_scale: pixels(workspace, cell.run) for cell in outcome.cells}
    effects = [np.abs(made[scale] - made[0.0]).mean() for scale in (0.0, 0.5, 1.0)]
    assert effects[0] == 0 < effects[1] < effects[2]
    for scale in (0.5, 1.0):
        alone = generate(Workspace(home=workspace.home / "alone"), tracker.uri, **held, lora_scale=scale)
        assert np.array_equal(pixels(Workspace(home=workspace.home / "alone"), alone.summary.run), made[scale])
    without = generate(workspace, tracker.uri)
    assert np.array_equal(pixels(workspace, without.summary.run), made[0.0])
    runs = [cell.run for cell in outcome.cells]
    t2i_track.evaluate(*runs, metrics="alignment", home=workspace.home, tracking_uri=tracker.uri)
    with workspace.reading() as session:
        rows = [row for row in run_rows(session) if row.run != without.summary.run]
    comparison = comparing.compare(rows, "alignment")
    titles, cells = ranked(comparison)
    column = titles.index("lora_scale")
    assert {row[column] for row in cells} == {"0.0", "0.5", "1.0"}


def test_files_are_loaded_anew_where_they_differ(
    files: Path, workspace: Workspace, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str | None] = []
    original = making.load
    monkeypatch.setattr(
        making, "load", lambda settings, **more: loads.append(settings.lora) or original(settings, **more)
    )
    a, b = (str(files / f"{name}.safetensors") for name in "ab")
    values = [a, None, f"{a}:0.5", f"{a};{b}", f"{a};{b}:0.5"]
    outcome = sweep(workspace, tracker, settings=QUICK, axes={"lora": values})
    assert [cell.error for cell in outcome.cells] == [None] * 5
    assert len(loads) == 3
    made = [pixels(workspace, cell.run) for cell in outcome.cells]
    assert all(not np.array_equal(one, other) for number, one in enumerate(made) for other in made[:number])
    same = sweep(workspace, tracker, settings={**QUICK, "lora": a}, axes={"lora_scale": [0.5, 1]}, name="t")
    assert [cell.state for cell in same.cells] == ["made", "taken over"]


def test_what_is_recorded_of_several(files: Path, workspace: Workspace, tracking_uri: str) -> None:
    given = [f"{files}/a.safetensors:0.5", f"{files}/b.safetensors"]
    outcome = generate(workspace, tracking_uri, PROMPTS[:1], lora=given)
    with workspace.reading() as session:
        run = session.scalars(select(Run)).one()
        assert run.lora == ";".join(given)
        assert len(run.config["lora_files"]) == 2
        assert run.config["lora_sha256"] not in run.config["lora_files"]
    record = png.read_record(next(Path(outcome.summary.folder).glob("*.png")))
    assert (record["lora"], record["lora_files"]) == (";".join(given), run.config["lora_files"])
    alone = generate(workspace, tracking_uri, PROMPTS[:1], lora=f"{files}/a.safetensors")
    with workspace.reading() as session:
        run = session.scalars(select(Run).where(Run.uuid == alone.summary.run)).one()
        assert [run.config["lora_sha256"]] == run.config["lora_files"]


def test_a_resume_refuses_a_changed_file_by_name(
    files: Path, workspace: Workspace, tracking_uri: str, tmp_path: Path
) -> None:
    a, b = (shutil.copy(files / f"{name}.safetensors", tmp_path) for name in "ab")
    run = generate(workspace, tracking_uri, lora=[str(a), str(b)]).summary.run
    with workspace.begin() as session:
        session.delete(session.scalars(select(Image).where(Image.prompt_index == 2)).one())
    shutil.copy(files / "part.safetensors", b)
    where: dict[str, Any] = {"home": workspace.home, "tracking_uri": tracking_uri}
    with pytest.raises(ModelError, match=rf"the LoRA '{b}' has changed since run {run[:12]} began \(\w+ then, \w+ now"):
        t2i_track.generate(resume=run, evaluate=False, **where)
    shutil.copy(files / "b.safetensors", b)
    with pytest.raises(SettingsError, match="was made with lora"):
        t2i_track.generate(resume=run, evaluate=False, lora=f"{a}:0.5;{b}", **where)
    assert t2i_track.generate(resume=run, evaluate=False, lora=f"{a}:1.0;{b}", **where).summary.made == 1


def test_reproduce_says_which_file_is_gone(
    files: Path, workspace: Workspace, tracking_uri: str, tmp_path: Path
) -> None:
    a, b, cat = (Path(shutil.copy(files / f"{name}.safetensors", tmp_path)) for name in ("a", "b", "cat"))
    generate(workspace, tracking_uri, ["a <cat>"], lora=[f"{a}:0.5", str(b)], lora_scale=2.0, embedding=str(cat))
    assert reproduce(workspace, "1").equal
    moved = b.rename(tmp_path / "moved.safetensors")
    with pytest.raises(ModelError, match=rf"the LoRA '{b}', \w+ \(2 of 2\) is gone: .* with --lora$"):
        reproduce(workspace, "1")
    assert reproduce(workspace, "1", lora=str(moved)).equal
    both = a.rename(tmp_path / "both.safetensors")
    with pytest.raises(ModelError, match=rf"'{a}', \w+ \(1 of 2\), '{b}', \w+ \(2 of 2\) is gone: .*once for each"):
        reproduce(workspace, "1")
    assert reproduce(workspace, "1", lora=f"{moved};{both}").equal, "in any order"
    with pytest.raises(ModelError, match=rf"the weights of '{files}/part.safetensors' are not those of the record"):
        reproduce(workspace, "1", lora=str(files / "part.safetensors"))
    with pytest.raises(SettingsError, match=r"--lora .*:0\.5: its scale is the record's, give the file alone"):
        reproduce(workspace, "1", lora=f"{moved}:0.5")
    cat.unlink()
    with pytest.raises(ModelError, match=rf"the embedding '{cat}', \w+ is gone: .* with --embedding$"):
        reproduce(workspace, "1", lora=f"{moved};{both}")
    again = str(files / "cat.safetensors")
    assert t2i_track.reproduce("1", lora=[moved, both], embedding=again, home=workspace.home).equal
    forget_database(workspace.home)
    picture = next(workspace.home.rglob("*.png"))
    with pytest.raises(ModelError, match=rf"^no run here has used the lora of this record \('{a}', \w+ \(1 of 2\), '"):
        reproduce(workspace, str(picture), embedding=again)
    assert reproduce(workspace, str(picture), lora=f"{moved};{both}", embedding=again).equal


def test_a_record_of_before_is_made_again(files: Path, workspace: Workspace, tracking_uri: str, tmp_path: Path) -> None:
    """Runs of earlier versions have one LoRA, no scale, and one hash."""
    generate(workspace, tracking_uri, PROMPTS[:1], lora=f"{files}/a.safetensors")
    with workspace.begin() as session:
        run = session.scalars(select(Run)).one()
        config = {key: value for key, value in run.config.items() if key not in ("lora_files", "embedding_files")}
        for part in ("settings", "resolved"):
            later = ("lora_scale", "embedding")
            config[part] = {key: value for key, value in config[part].items() if key not in later}
        run.config = {key: value for key, value in config.items() if key not in ("embedding_sha256", "notes")}
    assert reproduce(workspace, "1").equal
    with workspace.reading() as session:
        run = session.scalars(select(Run)).one()
        assert generation.stored_notes(run) == ()
    assert (
        t2i_track.generate(resume=run.uuid, evaluate=False, home=workspace.home, tracking_uri=tracking_uri).summary.made
        == 0
    )


def test_notes_are_stored_printed_and_shown(cli: Any, files: Path, tmp_path: Path) -> None:
    place = f"{files}/part.safetensors"
    count = sum("lora_A" in name for name in load_file(files / "a.safetensors"))
    note = f"LoRA part.safetensors: {count} of {count + 1} layers fit, 1 is left out: unet.nowhere"
    options = ["--steps", 2, "--batch-size", 1, "--device", "cpu", "--no-evaluate", "--prompt", "a red circle"]
    made = cli("generate", *options, "--lora", f"{place}:0.5", "--format", "json")
    assert json.loads(made.out)["notes"] == [note]
    assert f"note: {note}" in cli("generate", *options, "--lora", place, "--lora", f"{files}/a.safetensors").out
    assert note in cli("show", "latest").out
    swept = cli("sweep", *options, "--lora", place, "--lora", f"{place}:0.5", "--lora-scale", "1")
    assert f"note: {note}" in swept.err


def test_an_embedding_is_a_word(files: Path, workspace: Workspace, tracking_uri: str) -> None:
    prompts = ["a <cat> circle", "a red circle"]
    both = f"{files}/cat.safetensors;{files}/doggo.safetensors"
    outcome = generate(workspace, tracking_uri, prompts, embedding=both, negative_prompt="doggo")
    assert outcome.notes == ["embedding cat.safetensors: its token '<cat>' is in 1 of the 2 prompts only"]
    plain = generate(workspace, tracking_uri, prompts, negative_prompt="doggo")
    moved = np.abs(pixels(workspace, outcome.summary.run) - pixels(workspace, plain.summary.run))
    assert moved.reshape(2, -1).max(1).all(), "the negative prompt is all pictures'"
    with workspace.reading() as session:
        run, other = session.scalars(select(Run).order_by(Run.id))
        tokens = list(session.scalars(select(Image.tokens).where(Image.run_id == run.id).order_by(Image.prompt_index)))
        shown = record_of(session, workspace, run.uuid)
    words = load(Settings(device="cpu")).pipe.tokenizer
    assert tokens == [len(words("a circle").input_ids) + 2, len(words("a red circle").input_ids)]
    assert run.settings_sha256 != other.settings_sha256
    assert shown["settings"]["embedding"] == both
    assert len(run.config["embedding_files"]) == 2
    record = png.read_record(next(Path(outcome.summary.folder).glob("*.png")))
    assert (record["embedding"], record["embedding_sha256"]) == (both, run.config["embedding_sha256"])
    assert reproduce(workspace, "1").equal
    unused = generate(workspace, tracking_uri, ["a star"], embedding=f"{files}/doggo.safetensors", run_name="u")
    assert unused.notes == [
        "embedding doggo.safetensors: its token 'doggo' is in none of the 1 prompts: it changes nothing"
    ]


def test_a_token_that_is_the_files_name_is_in_its_hash(
    files: Path, workspace: Workspace, tracking_uri: str, tmp_path: Path
) -> None:
    hashes = []
    for source, name in (("doggo", "doggo"), ("doggo", "kitten"), ("cat", "cat"), ("cat", "other")):
        (tmp_path / name).mkdir()
        place = shutil.copy(files / f"{source}.safetensors", tmp_path / name / f"{name}.safetensors")
        hashes.append(load(Settings(embedding=str(place), device="cpu")).adapters.embedding_sha256)
    assert len(set(hashes)) == 3
    assert hashes[2] == hashes[3], "its key is its token"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"<x>": torch.ones(1, 7)}, r"its tensor '<x>' is \[1, 7\], and the width of this model's words is text_enc"),
        ({"clip_l": torch.ones(1, 7), "clip_g": torch.ones(1, 9)}, r"its tensor 'clip_\w' is \[1, \d\], and the width"),
        ({"unet.x.lora_A.weight": torch.ones(2, 2), "unet.x.lora_B.weight": torch.ones(2, 2)}, r"give it with --lora"),
        ({"a": torch.ones(2), "b": torch.ones(2)}, r"has 2 tensors, and a textual inversion has one"),
        ({}, r"has 0 tensors, and a textual inversion has one"),
        ({"<x>": torch.full((1, 1), float("nan"))}, r"its tensor '<x>' is not finite"),
        ({"a": torch.ones(1, 1)}, r"its token 'a' is a word of the model already, or of another embedding"),
    ],
)
def test_what_is_no_embedding_is_named(
    tensors: dict[str, torch.Tensor], message: str, pipeline: Any, tmp_path: Path
) -> None:
    width = pipeline.pipe.text_encoder.config.hidden_size
    wide = {
        key: tensor.expand(1, width).clone() if tensor.shape == (1, 1) else tensor for key, tensor in tensors.items()
    }
    save_file(wide, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=rf"^embedding '\S+x\.safetensors'.*{message}"):
        load(Settings(embedding=str(tmp_path / "x.safetensors"), device="cpu"))
