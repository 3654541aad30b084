"""How LoRAs and embeddings are written: places, scales, several at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import pytest

from t2i_track.adapters import Spec, joined, specs
from t2i_track.cli import cli as commands
from t2i_track.errors import SettingsError
from t2i_track.runs.adapters import same_setting
from t2i_track.runs.grid import build, load
from t2i_track.settings import Resolved, Settings, Values
from t2i_track.workspace import Workspace


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.safetensors", [("a.safetensors", 1.0)]),
        ("a.safetensors:0.8", [("a.safetensors", 0.8)]),
        ("a.safetensors:-1;b:.5", [("a.safetensors", -1.0), ("b", 0.5)]),
        ("a:1e-1; b", [("a", 0.1), ("b", 1.0)]),
        (r"C:\loras\a.safetensors", [(r"C:\loras\a.safetensors", 1.0)]),
        (r"C:\loras\a.safetensors:2", [(r"C:\loras\a.safetensors", 2.0)]),
        ("owner/name:0.5", [("owner/name", 0.5)]),
        ("style:anime.safetensors", [("style:anime.safetensors", 1.0)]),
        ("v:2/a.safetensors", [("v:2/a.safetensors", 1.0)]),
        ("a:v2", [("a:v2", 1.0)]),
        ("a:", [("a:", 1.0)]),
        ("folder:2:1", [("folder:2", 1.0)]),
        ("x;;y.safetensors:0.5", [("x;y.safetensors", 0.5)]),
    ],
)
def test_places_and_scales(text: str, expected: list[tuple[str, float]]) -> None:
    found = specs(text, scaled=True)
    assert [(spec.place, spec.scale) for spec in found] == expected
    assert specs(joined(found), scaled=True) == found


def test_the_colons_of_embeddings_are_of_their_names() -> None:
    assert specs("a:0.5;b", scaled=False) == (Spec("a:0.5"), Spec("b"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora": "a;"}, "lora 'a;' has an empty part: write --lora once for each file"),
        ({"lora": ":0.5; "}, "lora ':0.5; ' has an empty part"),
        ({"embedding": "a; ;b"}, "embedding 'a; ;b' has an empty part: write --embedding once"),
        ({"lora": "a:1e999"}, "its scale 1e999 is not a finite number"),
        ({"lora": "a", "lora_scale": float("nan")}, "lora_scale must be a finite number"),
        ({"lora_scale": 0.5}, r"lora_scale 0\.5 would be ignored without a lora: .* --lora"),
        ({"lora": ["a", 1]}, "lora must be text"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_mapping(values)


def test_a_list_is_several_and_nothing_is_none() -> None:
    assert Settings.from_mapping({"lora": ["a:0.5", "b"]}).lora == "a:0.5;b"
    assert Settings.from_mapping({"lora": "", "embedding": None}) == Settings()


def fingerprint(lora_sha256: str | None = "l" * 64, embedding_sha256: str | None = None, **changes: Any) -> str:
    return Resolved(
        settings=Settings(**{"scheduler": "pndm", **changes}),
        weights_sha256="w" * 64,
        lora_sha256=lora_sha256,
        scheduler_config={},
        manifest_sha256="m" * 64,
        embedding_sha256=embedding_sha256,
    ).fingerprint


def test_what_of_them_is_in_the_fingerprint() -> None:
    """The bytes of the files and the scales; a LoRA alone at scale 1 as in the first release."""
    alone = fingerprint(lora="a.safetensors")
    assert alone == "3576903c359f0fd31071b7a12dc78717e42cb8c6eb2b85395fbbad9d065235dc"
    assert alone == fingerprint(lora="elsewhere/b.safetensors") == fingerprint(lora="a.safetensors:1.0")
    different = [
        fingerprint(lora="a.safetensors:0.5"),
        fingerprint(lora="a.safetensors", lora_scale=0.5),
        fingerprint("k" * 64, lora="a.safetensors"),
        fingerprint(lora="a.safetensors", embedding="e", embedding_sha256="e" * 64),
        fingerprint(lora="a.safetensors", embedding="e", embedding_sha256="f" * 64),
        fingerprint(lora="a:0.5;b"),
        fingerprint(lora="a;b:0.5"),
    ]
    assert len({alone, *different}) == 1 + len(different)


def test_places_are_stored_so_that_they_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(home=tmp_path / "home")
    (tmp_path / "home").mkdir()
    for name in ("a.safetensors", "home/b.safetensors", "x;y.safetensors"):
        (tmp_path / name).touch()
    typed = Settings(
        lora="a.safetensors:0.8;home/b.safetensors;owner/name:2;x;;y.safetensors", embedding="a.safetensors"
    )
    stored = workspace.stored_settings(typed)
    there = tmp_path.as_posix()
    assert stored.lora == f"{there}/a.safetensors:0.8;./b.safetensors;owner/name:2;{there}/x;;y.safetensors"
    assert stored.embedding == f"{there}/a.safetensors"
    moved = Workspace(home=(tmp_path / "home").rename(tmp_path / "moved"))
    assert moved.located(stored).lora == (stored.lora or "").replace("./", f"{there}/moved/")


def test_a_resume_may_write_them_in_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    assert same_setting("lora", f"{tmp_path}/a:0.50;owner/name", "a:0.5;owner/name:1")
    assert not same_setting("lora", f"{tmp_path}/a:0.5", "a")
    assert not same_setting("lora", f"{tmp_path}/a", "b")
    assert not same_setting("lora", f"{tmp_path}/a", "a;b")


def parsed(command: str, arguments: list[str], **extra: Any) -> dict[str, Any]:
    found = commands.get_command(click.Context(commands), command)
    assert found is not None
    context = found.make_context(command, arguments, **extra)
    return context.params


def test_the_option_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed("generate", ["--lora", "a b:0.8", "--lora", "c"])["lora"] == "a b:0.8;c"
    assert parsed("generate", ["--lora", ""])["lora"] is None
    file = tmp_path / "e.yaml"
    file.write_text("settings: {lora: 'a:0.5;b', embedding: [x, y]}\n")
    params = parsed("generate", ["--config", str(file)])
    assert (params["lora"], params["embedding"]) == ("a:0.5;b", "x;y")
    monkeypatch.setenv("T2I_LORA", "a b:0.5;c")
    assert parsed("generate", [], auto_envvar_prefix="T2I")["lora"] == "a b:0.5;c"


def test_each_repetition_in_a_sweep_is_a_value() -> None:
    params = parsed("sweep", ["--lora", "a,b.safetensors", "--lora", "c;d:0.5", "--lora", "", "--lora-scale", "0,1"])
    assert params["lora"] == ("a,b.safetensors", "c;d:0.5", "")
    cells = build({"axes": {"lora": ["a", "c;d:0.5", ["e", "f"], None]}}, "test").cells()
    assert [cell.lora for cell in cells] == ["a", "c;d:0.5", "e;f", None]


def test_a_scale_is_held_where_the_lora_varies(tmp_path: Path) -> None:
    """A setting that needs another one is not refused for lack of an axis' value."""
    file = tmp_path / "e.yaml"
    file.write_text("settings: {lora_scale: 0.5}\naxes: {lora: [a, b]}\n")
    assert [(cell.lora, cell.lora_scale) for cell in load(file).cells()] == [("a", 0.5), ("b", 0.5)]
    with pytest.raises(SettingsError, match=r"would be ignored without a lora: .*exclude that cell"):
        list(build({"settings": {"lora_scale": 0.5}, "axes": {"lora": ["a", None]}}, "test").cells())
    excluded = {"axes": {"lora": [None, "a"], "lora_scale": [0.5, 1]}, "exclude": [{"lora": None, "lora_scale": 0.5}]}
    assert len(list(build(excluded, "test").cells())) == 3


def test_records_of_before_mean_what_they_meant() -> None:
    stored = Values.stored({"lora": "a.safetensors"})
    assert (stored.lora_scale, stored.embedding) == (1.0, None)
    assert dataclasses.replace(stored, lora=None) == Values.stored({})
