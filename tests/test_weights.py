"""Digests of weights that are kept by file identity: what is known is not read again, what changed is."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from t2i_track import assets
from t2i_track.errors import ModelError
from t2i_track.images import weights
from t2i_track.images.loading import load
from t2i_track.images.weights import KEPT, KnownDigests, tensors_sha256, weights_sha256
from t2i_track.runs.generate import Generator
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where digests are kept, also of small files and of such as have just been written."""
    monkeypatch.setattr(weights, "WORTH_KEEPING", 0)
    monkeypatch.setattr(weights, "SETTLED", -1.0)
    return tmp_path / "cache" / KEPT


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "unet").mkdir()
    save_file({"a": torch.arange(6.0), "b": torch.ones(2, 2)}, tmp_path / "unet" / "one.safetensors")
    return tmp_path / "unet" / "one.safetensors"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the tensors that are hashed from here on."""
    found: list[int] = []
    real = weights._digest

    def counted(stream: Any, tensor: dict[str, Any]) -> str:
        found.append(tensor["data_offsets"][1] - tensor["data_offsets"][0])
        return real(stream, tensor)

    monkeypatch.setattr(weights, "_digest", counted)
    return found


def digest(file: Path, kept: Path, *, writes: bool = True) -> str:
    return weights_sha256(file.parent.parent, [file], KnownDigests(kept, writes=writes))


def test_a_file_is_read_once(file: Path, kept: Path, read: list[int]) -> None:
    first = digest(file, kept)
    assert sorted(read) == [16, 24]
    assert digest(file, kept) == first
    assert len(read) == 2
    file.parent.rename(file.parent.with_name("vae"))
    moved = file.parent.with_name("vae") / file.name
    assert digest(moved, kept) != first, "the component is part of it"


def test_a_file_that_changed_is_read_again_though_its_size_and_time_are_put_back(
    file: Path, kept: Path, read: list[int]
) -> None:
    first, before = digest(file, kept), file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert digest(file, kept) != first
    assert len(read) == 4


def test_another_file_under_the_same_name_is_read_again(file: Path, kept: Path) -> None:
    first, before = digest(file, kept), file.stat()
    other = file.with_name("other")
    save_file({"a": torch.arange(6.0) + 1, "b": torch.ones(2, 2)}, other)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert digest(file, kept) != first


def test_what_only_reads_writes_nothing(file: Path, kept: Path, read: list[int]) -> None:
    first = digest(file, kept, writes=False)
    assert not kept.parent.exists()
    assert digest(file, kept) == first
    before = kept.read_bytes(), kept.stat().st_mtime_ns
    assert digest(file, kept, writes=False) == first
    assert len(read) == 4
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b'{"x": 7}', b'{"x": {"identity": 7, "tensors": []}}', b"\xff", b"[" * 100_000,
     b'{"x": {"identity": [], "tensors": [7]}}'],
)  # fmt: skip
def test_what_cannot_be_read_is_written_anew(file: Path, kept: Path, read: list[int], content: bytes) -> None:
    expected = digest(file, kept)
    kept.write_bytes(content)
    assert digest(file, kept) == expected
    assert digest(file, kept) == expected
    assert len(read) == 4


def test_two_at_once_keep_both_unless_one_overtakes(file: Path, kept: Path, read: list[int], tmp_path: Path) -> None:
    other = tmp_path / "unet" / "two.safetensors"
    shutil.copy(file, other)
    one, two = KnownDigests(kept, writes=True), KnownDigests(kept, writes=True)
    weights_sha256(tmp_path, [file], one)
    weights_sha256(tmp_path, [other], two)
    assert set(json.loads(kept.read_bytes())) == {str(file), str(other)}
    file.unlink()
    save_file({"a": torch.ones(1)}, tmp_path / "unet" / "three.safetensors")
    digest(tmp_path / "unet" / "three.safetensors", kept)
    assert str(file) not in json.loads(kept.read_bytes()), "what is gone is forgotten"


def test_a_file_that_was_written_just_now_is_not_kept(file: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SETTLED", 60.0)
    digest(file, kept)
    assert not kept.exists()


def test_a_cache_that_cannot_be_written_costs_time_only(file: Path, kept: Path, tmp_path: Path) -> None:
    expected = digest(file, kept)
    (tmp_path / "occupied").write_text("a file")
    assert digest(file, tmp_path / "occupied" / KEPT) == expected


def test_components_of_several_folders_are_one_model(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(file, tmp_path / "elsewhere" / "x.safetensors")
    assert tensors_sha256([("unet", tmp_path / "elsewhere" / "x.safetensors")]) == weights_sha256(tmp_path, [file])


def test_a_header_that_promises_too_much_is_refused(file: Path) -> None:
    file.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelError, match=r"unet/one\.safetensors is cut short, or no \.safetensors file"):
        weights_sha256(file.parent.parent, [file])


def test_a_second_command_does_not_hash_again(tmp_path: Path, kept: Path, read: list[int], tracking_uri: str) -> None:
    from t2i_track.prompts.manifest import from_prompts
    from t2i_track.runs.plan import Plan
    from t2i_track.runs.reproduce import reproduce

    workspace = Workspace(home=tmp_path / "home")
    settings = Settings(steps=2, batch_size=1, device="cpu", guidance=1.0)
    plan = Plan(settings=settings, manifest=from_prompts(["a"]), experiment="tests")
    for _ in range(2):
        with Tracker(tracking_uri, workspace.outbox) as tracker:
            Generator(workspace, tracker).generate(plan)
    files = assets.shapes_sd().glob("*/*.safetensors")
    assert len(read) == sum(len(weights.header(one)) for one in files)
    assert set(json.loads((workspace.cache / KEPT).read_bytes())) == {
        str(one) for one in assets.shapes_sd().glob("*/*.safetensors")
    }
    once = len(read)
    assert reproduce(workspace, "1").equal
    assert len(read) == once
    load(Settings(device="cpu"))
    assert len(read) == 2 * once


TENSOR = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 4\n",
            "only a pointer of Git LFS: run 'git",
        ),
        (f'{{"a": {TENSOR}, "a": {TENSOR}}}', "cannot be used: in its header the key 'a' is there twice"),
        (f'{{"a": {TENSOR}, "b": {{"shape": [1], "shape": [2]}}}}', "in its header the key 'shape' is there twice"),
        ("[]", "is cut short, or no .safetensors file: copy or download it again"),
        (b"", "is cut short, or no .safetensors file"),
    ],
)
def test_files_that_hold_no_tensors_are_named(content: str | bytes, message: str, tmp_path: Any) -> None:
    if isinstance(content, str):
        content = len(content).to_bytes(8, "little") + content.encode() + bytes(4)
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(message)):
        weights_sha256(tmp_path, [tmp_path / "x.safetensors"])


def test_weights_hash_is_of_the_tensors(tmp_path: Any) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    save_file(tensors, tmp_path / "one" / "model.safetensors")
    save_file({"b": tensors["b"]}, tmp_path / "two" / "1.safetensors", metadata={"made": "elsewhere"})
    save_file({"a": tensors["a"]}, tmp_path / "two" / "2.safetensors")

    def digest(folder: str) -> str:
        files = sorted((tmp_path / folder).glob("*"))
        return weights_sha256(tmp_path / folder, files)

    assert digest("one") == digest("two")
    save_file({"a": tensors["a"] + 1}, tmp_path / "two" / "2.safetensors")
    assert digest("one") != digest("two")
