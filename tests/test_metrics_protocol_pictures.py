"""What of the pictures and of the device is in a protocol, so that it decides what is compared with what."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawn_pictures import SIDE, draw, items_of, run

from t2i_track.metrics.evaluate import plan
from t2i_track.metrics.extractors import resolve
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.protocol import ProtocolRecord


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("run") / "ours", 50, 1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def several(folder: Path, per_prompt: int) -> list[ImageItem]:
    """The pictures of a folder as so many of each prompt."""
    return [
        replace(item, prompt=f"a red circle {place // per_prompt}", prompt_index=place // per_prompt,
                replicate=place % per_prompt)
        for place, item in enumerate(items_of(folder))
    ]  # fmt: skip


def fingerprint(images: Sequence[ImageItem], cache: Path, **changes: Any) -> str:
    return plan(images, metrics=["is"], cache_dir=cache, **changes)["is"].fingerprint


def test_as_many_images_of_fewer_prompts_are_another_protocol(ours: Path, cache: Path) -> None:
    found = [fingerprint(several(ours, number), cache) for number in (1, 2, 5)]
    assert len(set(found)) == 3
    assert found[0] == fingerprint(items_of(ours), cache)
    [scored] = {one.protocol.fingerprint for one in run(several(ours, 2), cache).results}
    assert scored == found[1]


def test_pictures_of_other_prompts_have_the_same_protocol(ours: Path, tmp_path: Path, cache: Path) -> None:
    """Runs over different manifests are compared, unpaired."""
    others = [replace(item, prompt=f"another {item.prompt}") for item in items_of(draw(tmp_path / "theirs", 50, 2))]
    assert fingerprint(others, cache) == fingerprint(items_of(ours), cache)


@pytest.mark.parametrize("lost", [(0,), (49,), (3, 7)])
def test_which_pictures_were_lost_is_in_the_protocol(
    ours: Path, tmp_path: Path, cache: Path, lost: Sequence[int]
) -> None:
    def without(*places: int) -> ProtocolRecord:
        images = [
            replace(item, path=tmp_path / "gone.png", sha256=hashlib.sha256(f"gone {place}".encode()).hexdigest())
            if place in places
            else item
            for place, item in enumerate(items_of(ours))
        ]
        return run(images, cache, skip_bad=True).results[0].protocol

    protocol, other = without(*lost), without(*(place + 1 if place < 49 else 1 for place in lost))
    assert protocol.n == other.n == 50 - len(lost)
    assert protocol.fingerprint != other.fingerprint
    assert replace(protocol, parameters={}).fingerprint == replace(other, parameters={}).fingerprint
    assert protocol.fingerprint == without(*lost).fingerprint


def test_the_class_of_the_device_is_in_the_protocol(ours: Path, cache: Path) -> None:
    found = {device: fingerprint(items_of(ours), cache, device=device) for device in ("cpu", "cuda", "cuda:1", "mps")}
    assert found["cuda"] == found["cuda:1"]
    assert len(set(found.values())) == 3
    assert found["cpu"] == fingerprint(items_of(ours), cache)
    folders = [resolve("shapes", cache).folder(cache, (SIDE, SIDE), device) for device in ("cpu", "cuda", "cuda:1")]
    assert folders[0] != folders[1] == folders[2]
