"""What `t2i doctor --model` says of a model, and that nothing of it is loaded for that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny as small

from t2i_track.images import inspection
from t2i_track.images.model_folder import Choice
from t2i_track.runs.doctor import check_model
from t2i_track.settings import Settings


def said(**chosen: Any) -> dict[str, tuple[str, str]]:
    return {found.check: (found.status, found.detail) for found in check_model(Settings(**chosen), allow_pickle=False)}


def test_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.DiffusionPipeline.from_pretrained", None)
    found = said()
    assert found["family"] == ("ok", "Stable Diffusion 1.x, 2.x (StableDiffusionPipeline)")
    assert found["guidance"] == ("ok", "classifier-free")
    assert found["schedulers"][1].startswith("its own: pndm; pndm, ddim, ")
    assert found["size of pictures"] == ("ok", "64 x 64; multiples of 8")
    assert found["defaults of its class"] == ("ok", "guidance 7.5, 50 steps")
    assert "made for" not in found


@pytest.mark.parametrize("name", sorted(set(small.FAMILIES) - {"cogview4"}))
def test_every_family(name: str, tiny: Callable[[str], Path]) -> None:
    found = inspection.facts(Settings(model=str(tiny(name))), Choice())
    assert found.scheduler in found.schedulers
    assert found.size % found.family.multiple == 0
    assert found.parameters is not None
    # All of them are stored in single precision, with a header each.
    assert 4 * found.parameters < found.files_bytes < 4 * found.parameters + 400_000


def test_memory_is_counted_from_the_headers(tiny: Callable[[str], Path]) -> None:
    plain, half = (inspection.facts(Settings(model=str(tiny(name))), Choice()) for name in ("sd1", "fp16-only"))
    assert plain.parameters == half.parameters
    assert half.files_bytes < 0.6 * plain.files_bytes


def test_what_it_was_made_for(tiny: Callable[[str], Path]) -> None:
    assert said(model=str(tiny("flux-schnell")))["guidance"] == ("note", "none")
    assert said(model=str(tiny("sd-lcm")))["made for"] == ("note", "few steps: a consistency model")


@pytest.mark.parametrize("name", ["inpaint", "unknown-class", "pointers", "cut", "no-weights"])
def test_what_is_missing_or_not_run_here_is_one_line(name: str, tiny: Callable[[str], Path]) -> None:
    model = tiny(name)
    found = said(model=str(model))
    assert list(found) == ["model"]
    assert found["model"][0] == "broken"
    assert str(model) in found["model"][1]
    assert "\n" not in found["model"][1]


def test_of_an_id_the_configurations_alone_are_downloaded(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes of its weights are read off the hub's listing."""
    folder = tiny("sd1")
    listed = [
        SimpleNamespace(rfilename=file.relative_to(folder).as_posix(), size=file.stat().st_size)
        for file in folder.rglob("*")
        if file.is_file()
    ]
    asked: list[Any] = []
    monkeypatch.setattr(inspection, "download", lambda *given: asked.append(given) or (folder, "abc"))
    monkeypatch.setattr("huggingface_hub.model_info", lambda *_, **__: SimpleNamespace(siblings=listed))
    found = inspection.facts(Settings(model="owner/name"), Choice())
    assert {choice for _, _, choice in asked} == {None}
    assert (found.here, found.parameters) == (False, None)
    weights = sum(one.size for one in listed if one.rfilename.endswith(".safetensors"))
    assert weights < found.files_bytes <= sum(one.size for one in listed)
