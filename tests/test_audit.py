"""Audits of whole runs with the embedded model, and seals: made, checked elsewhere, tampered with, hostile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from homes import copy_home
from sqlalchemy import select, update

import t2i_track
from t2i_track.db.models import Image, ImageScore, MetricValue, Prompt, Run, RunStatus
from t2i_track.errors import ModelError, SealError, SettingsError
from t2i_track.images import png
from t2i_track.runs import seal_file
from t2i_track.runs.audit import Audit, audit
from t2i_track.runs.claims import Findings, Verdict
from t2i_track.runs.merkle import leaf_hash
from t2i_track.runs.seal import root_of, seal
from t2i_track.workspace import Workspace

NUM = 6


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> Path:
    """A home with a scored run of six pictures, three prompts twice, in batches of four, and two seals of it."""
    folder = tmp_path_factory.mktemp("audit")
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    t2i_track.generate(
        steps=2, num=3, images_per_prompt=2, batch_size=4, device="cpu", experiment="tests", run_name="six",
        scheduler="ddim", home=folder / "home", tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
    )  # fmt: skip
    seal(Workspace(folder / "home"), "six", out=folder / "open.json")
    seal(Workspace(folder / "home"), "six", out=folder / "private.json", private=True)
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Workspace:
    return Workspace(home=copy_home(template / "home", tmp_path / "home"))


@pytest.fixture
def nowhere(tmp_path: Path) -> Workspace:
    """A machine that has never seen the run."""
    return Workspace(home=tmp_path / "nowhere")


def pictures(workspace: Workspace) -> list[Path]:
    with workspace.reading() as session:
        query = select(Image).order_by(Image.prompt_index, Image.replicate)
        return [workspace.image_path(image) for image in session.scalars(query)]


def told(found: Audit) -> str:
    return "\n".join(found.lines())


def test_a_true_run_agrees(template: Path) -> None:
    workspace = Workspace(template / "home")
    found = audit(workspace, "six", sample=4, nonce="a")
    assert found.sound
    assert found.findings.distribution()["bit-equal"] == 4
    assert found.findings.proves() == (
        "all 4 agree within 2 of 255: at most 33.3 % of the run can be false at 95 % (hypergeometric, 4 of 6)"
    )
    assert "not checked, since no scores of single images are stored:" in told(found)
    again = audit(workspace, "six", sample=4, nonce="a")
    assert [verdict.name for verdict in again.findings.verdicts] == [one.name for one in found.findings.verdicts]
    assert len(found.findings.nonce) == 1
    assert len(audit(workspace, "six", sample=0).findings.nonce) == 16, "random, and told"


def forge_pixels(workspace: Workspace) -> None:
    """A touched-up picture whose record, hashes and row were all made to fit."""
    import hashlib

    path = pictures(workspace)[0]
    pixels = png.read_pixels(path).copy()
    pixels[20:40, 20:40] = 255 - pixels[20:40, 20:40]
    digest = png.pixels_sha256(pixels)
    content = png.encode(pixels, {**png.read_record(path), "pixels_sha256": digest}, marked=True)
    path.write_bytes(content)
    with workspace.begin() as session:
        image = session.scalars(select(Image).where(Image.path == workspace.stored_path(path))).one()
        image.sha256, image.pixels_sha256 = hashlib.sha256(content).hexdigest(), digest


def forge_prompt(workspace: Workspace) -> None:
    with workspace.begin() as session:
        session.execute(update(Prompt).where(Prompt.id == 1).values(text="a photograph"))


def forge_seed(workspace: Workspace) -> None:
    with workspace.begin() as session:
        first = session.scalars(select(Image)).first()
        assert first is not None
        first.seed = 7


def forge_score(workspace: Workspace) -> None:
    with workspace.begin() as session:
        session.execute(update(MetricValue).where(MetricValue.name == "alignment").values(value=0.99))


def forge_image_score(workspace: Workspace) -> None:
    with workspace.begin() as session:
        row = session.scalars(select(ImageScore).where(ImageScore.name == "alignment")).first()
        assert row is not None
        row.value += 0.25


OF_A_PICTURE = ("made again, it differs by up to ", "the prompt 'a photograph' has another hash", "its seed is 7")


@pytest.mark.parametrize(
    ("forge", "what"),
    [
        *((forge, what) for forge, what in zip((forge_pixels, forge_prompt, forge_seed), OF_A_PICTURE, strict=True)),
        (forge_score, "alignment is 0.99, and the scores of its 6 images have the mean"),
        (forge_image_score, "alignment is "),
    ],
)
def test_what_was_tampered_with_is_found(home: Workspace, forge: Callable[[Workspace], None], what: str) -> None:
    forge(home)
    found = audit(home, "six", sample=NUM if what in OF_A_PICTURE else 0)
    assert not found.sound
    assert what in told(found)


def test_a_seal_says_what_it_holds(template: Path) -> None:
    content = json.loads((template / "open.json").read_text())
    assert content["signed"] is False
    assert content["counts"] == {"num": 3, "images_per_prompt": 2, "images": NUM}
    assert len(content["shared"]["weights_sha256"]) == len(content["shared"]["manifest_sha256"]) == 64
    assert content["root"] == root_of(content, [leaf_hash(record) for record in content["records"]])
    assert (template / "open.json").stat().st_size < sum(
        path.stat().st_size for path in pictures(Workspace(template / "home"))
    )
    private = (template / "private.json").read_text()
    assert json.loads(private)["leaves"] == [leaf_hash(record) for record in content["records"]]
    assert not any(record["prompt"] in private for record in content["records"])


@pytest.mark.slow
def test_a_seal_is_audited_in_another_process_with_other_threads(template: Path, tmp_path: Path) -> None:
    """Without the pictures and the database: by the hashes of pictures that are made again."""
    command = [sys.executable, "-m", "t2i_track", "audit", template / "open.json", "--sample", "3", "--format", "json"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "2",
        "T2I_HOME": str(tmp_path / "none"),
        "T2I_GENERATE_BATCH_SIZE": "1",
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sound"] is True
    assert found["sampled"] == found["made_again"]["bit-equal"] == 3
    assert found["held"] is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["open.json", "private.json"])
def test_pictures_at_hand_have_the_root(template: Path, nowhere: Workspace, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in pictures(Workspace(template / "home")):
        shutil.copyfile(path, folder / path.name)
    found = audit(nowhere, str(template / name), pictures=folder)
    assert (found.sound, found.held, found.findings.looked) == (True, NUM, 0)
    assert "6 of 6 pictures at hand are the sealed ones: the root is that of the seal" in told(found)
    assert audit(nowhere, str(template / name), pictures=folder, sample=1).findings.distribution()["bit-equal"] == 1
    first, second, *_ = sorted(folder.iterdir())
    first.unlink()
    second.write_bytes(png.encode(png.read_pixels(second) ^ 1, png.read_record(second)))
    worse = audit(nowhere, str(template / name), pictures=folder)
    assert (worse.sound, worse.held) == (False, NUM - 2)
    what = "pixels_sha256" if name == "open.json" else "something"
    assert f"picture 1: {what}" in told(worse)
    assert "picture 0: 000000-0.png is gone" in told(worse)
    assert not nowhere.home.exists()


def test_the_home_that_has_the_run(template: Path, home: Workspace) -> None:
    assert audit(home, str(template / "private.json")).sound
    forge_pixels(home)
    forge_score(home)
    with home.begin() as session:
        session.execute(update(ImageScore).where(ImageScore.name == "alignment").values(value=0.99))
    found = audit(home, str(template / "open.json"))
    assert "alignment is 0.99 in the database, " in told(found)
    assert "picture 0: pixels_sha256" in told(found)
    with home.begin() as session:
        session.delete(session.scalars(select(Image)).first())
    assert "the database has 5 images of the run, the seal 6" in told(
        audit(home, str(template / "open.json"), sample=0)
    )


def test_a_picture_with_other_rounding_is_alike_by_its_blocks(
    template: Path, nowhere: Workspace, tmp_path: Path
) -> None:
    """As on another machine: the hashes are others, and only the seal is at hand."""
    content = json.loads((template / "open.json").read_text())
    for record in content["records"]:
        record["pixels_sha256"] = "0" * 64
    found = audit(nowhere, str(rewritten(tmp_path, content)), sample=2)
    assert found.sound
    assert found.findings.distribution()["alike by blocks"] == 2
    content["records"][0]["blocks"], content["records"][2]["blocks"] = (
        content["records"][2]["blocks"], content["records"][0]["blocks"],
    )  # fmt: skip
    found = audit(nowhere, str(rewritten(tmp_path, content)), sample=NUM)
    assert len(found.findings.disagreeing) == 2


def rewritten(folder: Path, content: dict[str, Any], *, fits: bool = True) -> Path:
    """A seal that was changed by somebody who knows how its root is made."""
    if fits:
        leaves = content.get("leaves") or [leaf_hash(record) for record in content["records"]]
        content = {**content, "root": root_of(content, leaves)}
    path = folder / "changed.json"
    path.write_text(json.dumps(content))
    return path


def changed(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**content, **changes}


def first_record(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**content, "records": [{**content["records"][0], **changes}, *content["records"][1:]]}


def first_score(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**content, "scores": [{**content["scores"][0], **changes}, *content["scores"][1:]]}


def test_a_changed_seal_is_found_out(template: Path, nowhere: Workspace, tmp_path: Path) -> None:
    content = json.loads((template / "open.json").read_text())
    for tampered in (
        first_record(content, prompt="a better one"),
        first_score(content, value=0.99),
        changed(content, shared={**content["shared"], "guidance": 1.0}),
    ):
        with pytest.raises(SealError, match="it was changed since it was written"):
            audit(nowhere, str(rewritten(tmp_path, tampered, fits=False)))
    # With a root that fits, what was changed has to be true all the same.
    found = audit(nowhere, str(rewritten(tmp_path, first_score(content, value=0.99))), sample=0)
    assert "alignment is 0.99, and the scores of its 6 images have the mean" in told(found)
    for tampered in (first_record(content, seed=7), changed(content, shared={**content["shared"], "guidance": 1.0})):
        assert not audit(nowhere, str(rewritten(tmp_path, tampered)), sample=NUM).sound


def test_what_cannot_be_sealed_or_audited(home: Workspace, nowhere: Workspace, template: Path, tmp_path: Path) -> None:
    with pytest.raises(SealError, match=r"is private: give the pictures with --pictures, or with --home"):
        audit(nowhere, str(template / "private.json"))
    with pytest.raises(SealError, match="is for a seal, and six is no file"):
        audit(home, "six", pictures=tmp_path)
    with pytest.raises(SealError, match="is no folder"):
        audit(nowhere, str(template / "open.json"), pictures=tmp_path / "none")
    pictures(home)[0].write_bytes(b"")
    with pytest.raises(SealError, match=r"1 of what is stored of run .* is not as it was recorded, the first is"):
        seal(home, "six", out=tmp_path / "x.json")
    for values, message in (
        ({"status": RunStatus.FAILED}, "is failed with 6 of 6"),
        ({"origin": "ComfyUI"}, "was imported"),
    ):
        with home.begin() as session:
            session.execute(update(Run).values(**values))
        with pytest.raises(SealError, match=message):
            seal(home, "six", out=tmp_path / "x.json")
    with pytest.raises(SealError, match="no picture of it can be made again"):
        audit(home, "six")
    assert not (tmp_path / "x.json").exists()


HOSTILE: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda _: [], "it is a list, not an object"),
    (lambda c: changed(c, t2i_seal=2), "t2i_seal of it must be 1"),
    (lambda c: changed(c, run="../../etc"), "run of it must be a run's id"),
    (lambda c: changed(c, name="a\0b"), "name of it must be text"),
    (lambda c: changed(c, counts={"num": 10**9, "images_per_prompt": 1, "images": 10**9}), "counts of it must be"),
    (lambda c: changed(c, counts={"num": 3, "images_per_prompt": 2, "images": 7}), "it counts 7 images of 3 prompts"),
    (lambda c: changed(c, records=c["records"][:5]), "it counts 6 images and lists 5"),
    (lambda c: changed(c, records={"a": 1}), "records of it must be a list"),
    (lambda c: changed(c, private=True), "it counts 6 images and lists 0"),
    (lambda c: changed(c, shared=3), "shared of it must be an object"),
    (lambda c: changed(c, scores=[{}] * 2000), "scores of it must be a list of at most"),
    (lambda c: first_score(c, value="high"), "value of a score must be a number"),
    (lambda c: first_score(c, value=10**400), "value of a score must be a number"),
    (lambda c: first_score(c, images=[1.0]), "has scores of 1 images, not of 6"),
    (lambda c: first_score(c, protocol={}), "fingerprint of a protocol must be a sha256"),
    (lambda c: first_record(c, prompt=["a"]), "prompt of record 0 must be text"),
    (lambda c: first_record(c, prompt="x" * 2**21), "prompt of record 0 must be text of at most"),
    (lambda c: first_record(c, seed=-1), "seed of record 0 must be a whole number"),
    (lambda c: first_record(c, prompt_index=2), "record 0 is of prompt 2, image 0"),
    (lambda c: first_record(c, blocks="AAAA"), "blocks of record 0 must be 4 x 4 colours"),
    (lambda c: first_record(c, steps=10**9), "record 0 has more than a record has: 'steps'"),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE)
def test_seals_that_are_none(
    template: Path, nowhere: Workspace, tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(change(json.loads((template / "open.json").read_text()))))
    with pytest.raises(SealError, match=message) as error:
        seal_file.read(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is not JSON"),
        (b"\x89PNG", "it is not JSON"),
        (b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_files_that_are_no_seal(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "hostile.json"
    path.write_bytes(content)
    with pytest.raises(SealError, match=message):
        seal_file.read(path)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"model": "/elsewhere/evil", "weights_sha256": "a" * 64},
            ModelError,
            "no run here has used the model of this record",
        ),
        ({"steps": 10**9}, SettingsError, r"steps must be in \[1, 10000\]"),
        (
            {"steps": 10_000, "batch_size": 4096, "height": 8192, "width": 8192},
            SettingsError,
            "than a picture of a stranger",
        ),
    ],
)
def test_a_seal_loads_nothing_that_nobody_named(
    template: Path,
    nowhere: Workspace,
    tmp_path: Path,
    change: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    content = json.loads((template / "open.json").read_text())
    content = changed(content, shared={**content["shared"], **change})
    with pytest.raises(kind, match=message):
        audit(nowhere, str(rewritten(tmp_path, content)), sample=1)


def test_the_commands(home: Workspace, cli: Callable[..., Any], tmp_path: Path) -> None:
    sealed = cli("seal", "six", "--out", tmp_path / "s.json", "--home", home.home)
    assert sealed.code == 0, sealed.err
    assert "signed  no" in sealed.out
    done = cli("audit", "six", "--sample", "2", "--seed", "n", "--home", home.home)
    assert done.code == 0, done.err
    assert "all 2 agree within 2 of 255: at most " in done.out
    assert "nonce       n" in done.out
    forge_pixels(home)
    wrong = cli("audit", tmp_path / "s.json", "--home", home.home)
    assert wrong.code == 1
    assert "picture 0: pixels_sha256, blocks of 000000-" in wrong.out
    assert wrong.err.startswith("t2i: run ")


def test_what_agrees_only_by_blocks_is_said() -> None:
    verdicts = [Verdict("a", 0, "hash"), Verdict("b", 3, "blocks")]
    found = Findings(whole=2, nonce="n", verdicts=verdicts)
    assert found.proves() == (
        "all 2 agree within 2 of 255, 1 of them only by the mean colours of blocks, within 3,"
        " which are all that there are"
    )
