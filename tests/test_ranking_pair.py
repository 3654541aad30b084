import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ranking_rows import constant, mean_score, noise, run

from t2i_track.errors import CompareError
from t2i_track.ranking import ImageRow, RunRow, compare_two

SHARED = noise(0)
A = run("a", {"fid": mean_score("fid", 20 + SHARED), "alignment": mean_score("alignment", 0.5 + 0.1 * SHARED)})
B = run(
    "b",
    {
        "fid": mean_score("fid", 21 + SHARED + 0.1 * noise(1)),
        "alignment": mean_score("alignment", 0.5 + 0.1 * SHARED + 0.01 * noise(2)),
        "cmmd": constant("cmmd", 0.2),
        "clip_score": constant("clip_score", 0.3),
    },
    guidance=12.0,
)


def image(name: str, index: int, replicate: int, score: float) -> ImageRow:
    path = Path(f"{name}/{index}-{replicate}.png")
    return ImageRow(name, index, replicate, f"prompt {index}", 1, path, {}, {"alignment": score})


def images(name: str, scores: list[float], replicates: int = 1) -> list[ImageRow]:
    return [image(name, index, r, score) for index, score in enumerate(scores) for r in range(replicates)]


def test_metrics_are_compared_in_pairs_with_a_verdict() -> None:
    found = {row.metric: row for row in compare_two(A, B).metrics}
    assert {name: row.verdict for name, row in found.items()} == {
        "fid": "A better", "cmmd": "unknown", "clip_score": "unknown", "alignment": "equal within the margin",
        "seconds_per_image": "unknown",
    }  # fmt: skip
    assert found["fid"].change is not None
    assert found["fid"].change.estimate == pytest.approx(1.0, abs=0.05)
    assert found["cmmd"].note == "A has no cmmd"
    assert (found["cmmd"].a, found["cmmd"].b) == (None, 0.2)


def test_protocols_are_never_mixed() -> None:
    other = run("b", {"fid": mean_score("fid", SHARED, protocol="o", protocol_label="metric=fid · n=99")})
    row = compare_two(A, other).metrics[0]
    assert row.change is None
    assert row.note == "another protocol: in B n is 99, not 128"


def test_what_is_no_number_is_said() -> None:
    row = compare_two(A, run("b", {"fid": constant("fid", float("nan"))})).metrics[0]
    assert (row.a, row.b, row.verdict, row.note) == (None, None, "unknown", "fid of B is not a number")


def test_the_settings_that_differ_are_named() -> None:
    assert compare_two(A, B).differing == {"guidance": (7.5, 12.0)}


def test_prompts_won_and_lost_and_the_largest_changes() -> None:
    ours, theirs = images("a", [0.1, 0.5, 0.5, 0.9]), images("b", [0.9, 0.5, 0.4, 0.95])
    found = compare_two(A, B, ours, theirs, top=2)
    assert [(c.metric, c.a_wins, c.b_wins, c.ties) for c in found.prompts] == [("alignment", 1, 2, 1)]
    assert [(c.prompt, round(c.change, 6)) for c in found.changes] == [("prompt 0", 0.8), ("prompt 2", -0.1)]
    assert found.by == "alignment"


def test_replicates_of_a_prompt_are_averaged_and_other_prompts_ignored() -> None:
    found = compare_two(A, B, images("a", [0.2, 0.4], replicates=2), images("b", [0.6], replicates=2))
    assert [(c.prompt_index, c.a, c.b) for c in found.changes] == [(0, 0.2, 0.6)]
    assert found.changes[0].a_path == Path("a/0-0.png")


def test_no_image_scores_is_said() -> None:
    bare = [ImageRow(name, 0, 0, "x", 1, Path("x.png")) for name in ("a", "b")]
    found = compare_two(A, B, bare[:1], bare[1:])
    assert found.changes == ()
    assert found.notes == ("No image has a score of its own; `t2i evaluate RUN --metrics alignment,clip` makes them.",)


def test_an_unknown_image_score_is_refused() -> None:
    with pytest.raises(CompareError, match="no score 'fid' for each image of both runs; there is alignment"):
        compare_two(A, B, images("a", [0.1]), images("b", [0.2]), by="fid")


def test_a_run_is_not_compared_with_itself() -> None:
    with pytest.raises(CompareError, match=r"both addresses are run 'a' \(a0000000\); name two different runs"):
        compare_two(A, A)


KEYS = "schema a b level correction differing metrics prompts by changes failures notes"


def test_the_json_keeps_its_documented_schema() -> None:
    record = json.loads(json.dumps(compare_two(A, B, images("a", [0.1]), images("b", [0.2])).to_dict()))
    assert record["schema"] == "t2i-track/compare-two/3"
    assert " ".join(record) == KEYS
    assert " ".join(record["metrics"][0]) == "metric a b change p_adjusted verdict note margin"
    assert " ".join(record["prompts"][0]) == "metric a_wins b_wins ties"
    assert " ".join(record["changes"][0]) == "prompt_index prompt a b a_path b_path change"


def of_pictures(name: str, number: int, label: str, level: float) -> tuple[RunRow, list[ImageRow]]:
    """A run over the first prompts of a manifest, whose alignment falls from prompt to prompt."""
    values = level - 0.001 * np.arange(number) + 0.01 * np.random.default_rng(len(name)).normal(size=number)
    score = mean_score("alignment", values, protocol=label, protocol_label=label)
    pictures = [replace(one, protocols={"alignment": label}) for one in images(name, values.tolist())]
    return run(name, {"alignment": score}, images=number), pictures


@pytest.mark.parametrize(
    ("ours", "theirs", "differs"),
    [
        ("metric=alignment · n=40", "metric=alignment · n=64", "n is 64, not 40"),
        ("n=40 · images_per_prompt=1", "n=40 · images_per_prompt=2", "images_per_prompt is 2, not 1"),
        ("n=40 · parameters.left_out_sha256=1", "n=40", "parameters.left_out_sha256 is not set, not 1"),
        ("n=40", "n=40 · parameters.scored_prompts_sha256=2", "parameters.scored_prompts_sha256 is 2, not set"),
    ],
)
def test_means_over_other_prompts_are_made_again_over_shared_ones(ours: str, theirs: str, differs: str) -> None:
    (a, images_a), (b, images_b) = of_pictures("a", 40, ours, 0.9), of_pictures("bb", 64, theirs, 0.8)
    found = compare_two(a, b, images_a, images_b)
    row = found.metrics[0]
    shared = [(one.scores["alignment"], two.scores["alignment"]) for one, two in zip(images_a, images_b, strict=False)]
    gaps = np.array([two - one for one, two in shared])
    assert (row.metric, row.verdict) == ("alignment", "A better")
    assert row.note == f"over the 40 prompts that both have: in B {differs}"
    assert row.a == pytest.approx(np.mean([one for one, _ in shared]))
    assert row.b == pytest.approx(np.mean([two for _, two in shared]))
    assert row.change is not None
    assert row.change.estimate == pytest.approx(gaps.mean())
    assert row.change.standard_error == pytest.approx(gaps.std(ddof=1) / np.sqrt(40))
    assert [(c.a_wins, c.b_wins) for c in found.prompts] == [(40, 0)]
    assert found.notes == ()


@pytest.mark.parametrize("label", ["n=64 · weights_sha256=2", "n=40 · weights_sha256=2", "n=64 · versions.numpy=3"])
def test_other_measurements_of_other_prompts_are_not_mixed(label: str) -> None:
    (a, images_a), (b, images_b) = of_pictures("a", 40, "n=40", 0.9), of_pictures("bb", 64, label, 0.8)
    found = compare_two(a, b, images_a, images_b)
    assert found.metrics[0].change is None
    assert found.prompts == ()


def test_a_picture_that_was_left_out_leaves_its_prompt_out() -> None:
    (a, images_a), (b, images_b) = (of_pictures(name, 40, f"n={n}", 0.9) for name, n in (("a", 40), ("bb", 39)))
    images_b[3] = replace(images_b[3], scores={}, protocols={})
    row = compare_two(a, b, images_a, images_b).metrics[0]
    assert row.note == "over the 39 prompts that both have: in B n is 39, not 40"
    assert row.change is not None


def test_too_few_prompts_in_common_allow_no_verdict() -> None:
    (a, images_a), (b, images_b) = of_pictures("a", 40, "n=40", 0.9), of_pictures("bb", 5, "n=5", 0.2)
    row = compare_two(a, b, images_a, images_b).metrics[0]
    assert row.verdict == "unknown"
    assert row.change is not None
    assert row.change.low is None
