"""The spread within prompts: closed forms, and which images can have it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from t2i_track.errors import MetricError
from t2i_track.metrics.evaluate import plan
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.measurable import default_metrics
from t2i_track.metrics.metric import Parameters
from t2i_track.metrics.prompts import GROUPS, Prompts
from t2i_track.metrics.rows import Score
from t2i_track.metrics.scores.prompt_spread import METRIC, spreads


def images(prompts: int, each: int) -> list[ImageItem]:
    places = [divmod(i, each) for i in range(prompts * each)]
    return [ImageItem(Path("x"), f"{n:064x}", f"{place[0]} red circles", *place) for n, place in enumerate(places)]


def measured(rows: np.ndarray, items: list[ImageItem], parameters: Parameters | None = None) -> Score:
    m = SimpleNamespace(rows=lambda kind: rows, images=items, prompts=Prompts.of([item.prompt for item in items]))
    return METRIC.compute(m, parameters or METRIC.parameters)["prompt_spread"]  # type: ignore[arg-type]


def planned(items: list[ImageItem], cache: Path) -> Parameters:
    return plan(items, metrics=["spread"], cache_dir=cache, size=(64, 64))["spread"].parameters


def test_the_mean_distance_of_a_prompt_s_pairs() -> None:
    # An equilateral triangle of side 2 and a pair at distance 5; the image alone has no pair.
    triangle = [[0.0, 0.0], [2.0, 0.0], [1.0, np.sqrt(3.0)]]
    rows = np.array([*triangle, [0.0, 0.0], [3.0, 4.0], [9.0, 9.0]])
    prompts, found = spreads(rows, np.array([4, 4, 4, 7, 7, 9]))
    assert prompts.tolist() == [4, 7]
    assert found == pytest.approx([2.0, 5.0], rel=1e-12)


def test_order_does_not_matter_and_prompts_do_not_mix() -> None:
    rows = np.random.default_rng(0).normal(size=(24, 5))
    prompts = np.repeat(np.arange(8), 3)
    shuffled = np.random.default_rng(1).permutation(24)
    assert spreads(rows[shuffled], prompts[shuffled])[1] == pytest.approx(spreads(rows, prompts)[1])
    far = rows + 1000.0 * prompts[:, None]
    assert spreads(far, prompts)[1] == pytest.approx(spreads(rows, prompts)[1], rel=1e-9)


def test_equal_images_have_no_spread() -> None:
    rows = np.repeat(np.random.default_rng(0).normal(size=(16, 300)) * 1e4, 2, axis=0)
    assert measured(rows, images(16, 2)).value == 0.0


def test_a_prompt_counts_once_whatever_its_images() -> None:
    rows = np.array([[0.0], [1.0], [0.0], [3.0], [0.0], [3.0]])
    items = images(3, 2)
    items[4:] = [replace(item, prompt=items[2].prompt) for item in items[4:]]
    # At another place of the manifest it is the same prompt: of its 0, 3, 0, 3 four pairs of six are at distance 3.
    assert measured(rows, items).value == pytest.approx((1.0 + 2.0) / 2)


def test_replicates_leave_prompts_out() -> None:
    rows = np.random.default_rng(2).normal(size=(80, 4))
    prompts = Prompts.of([item.prompt for item in images(40, 2)])
    score, (_, found) = measured(rows, images(40, 2)), spreads(rows, prompts.of_image)
    assert score.value == pytest.approx(found.mean())
    assert score.replicates is not None
    assert score.replicates[3] == pytest.approx(np.delete(found, [3, 3 + GROUPS]).mean())
    assert score.replicates[20] == pytest.approx(np.delete(found, [20]).mean())
    assert score.ci_low is not None
    assert score.ci_low < score.value < (score.ci_high or 0)
    assert score.note == "over 40 prompts that have at least two images"


def test_runs_with_an_image_a_prompt_cannot_have_it(tmp_path: Path) -> None:
    assert "spread" not in default_metrics("shapes", None, None, images(24, 1))
    assert "spread" in default_metrics("shapes", None, None, images(12, 2))
    message = (
        "spread needs two images of a prompt, and no prompt has them; make runs with --images-per-prompt 2 or more"
    )
    with pytest.raises(MetricError, match=message):
        planned(images(24, 1), tmp_path)
    with pytest.raises(MetricError, match="no prompt has them"):
        measured(np.zeros((3, 2)), images(3, 1))


def test_as_many_images_of_fewer_prompts_are_another_protocol(tmp_path: Path) -> None:
    said = {"distance": "euclidean", "version": 1}
    assert planned(images(12, 2), tmp_path) == {**said, "prompts": 12, "images_per_prompt": 2}
    assert planned(images(6, 4), tmp_path) == {**said, "prompts": 6, "images_per_prompt": 4}
