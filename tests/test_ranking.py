import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranking_rows import GROUPS, PROMPTS, constant, leave_out, mean_score, noise, run, sweep, with_diversity

from t2i_track.errors import CompareError
from t2i_track.ranking import RunRow, Score, as_json, compare, direction, protocol_label
from t2i_track.ranking.cost import cost_of_each
from t2i_track.ranking.differences import adjusted_p_values
from t2i_track.ranking.rows import varied
from t2i_track.settings import AXES


def tiers(rows: list[RunRow], by: str = "fid") -> dict[str, int | None]:
    return {entry.row.name: entry.tier for entry in compare(rows, by).ranking}


@pytest.mark.parametrize("metric", ["fid", "kid_mean", "cmmd", "fid_infinity", "seconds_per_image"])
def test_lower_is_better(metric: str) -> None:
    assert direction(metric) == "lower"


@pytest.mark.parametrize(
    "metric", ["inception_score_mean", "precision", "recall", "clip_score", "alignment", "alignment_colour"]
)
def test_higher_is_better(metric: str) -> None:
    assert direction(metric) == "higher"


@pytest.mark.parametrize("metric", ["kid_std", "nonsense"])
def test_what_has_no_better_end_cannot_rank(metric: str) -> None:
    with pytest.raises(CompareError, match=f"cannot rank by '{metric}': choose one of fid, kid_mean"):
        compare([run()], metric)


def test_runs_share_a_tier_unless_their_paired_difference_separates_them() -> None:
    assert tiers(sweep()) == {
        "g3-s20-42": 1, "g3-s40-42": 1, "g7.5-s20-42": 2, "g7.5-s40-42": 2, "g3-s10-42": 3, "g7.5-s10-42": 4,
        "g1-s20-42": 5, "g1-s40-42": 5, "g1-s10-42": 6,
    }  # fmt: skip


def test_ranking_follows_the_direction() -> None:
    assert [entry.row.guidance for entry in compare(sweep(), "alignment").ranking][::3] == [7.5, 3.0, 1.0]
    assert [entry.score.value for entry in compare(sweep()).ranking] == sorted(r.scores["fid"].value for r in sweep())


def test_runs_that_differ_only_by_seed_share_a_tier() -> None:
    found = tiers(sweep(seeds=(1, 2)))
    assert all(found[name] == found[name[:-1] + "2"] for name in found if name.endswith("-1"))


def frechet(features: np.ndarray[Any, Any]) -> float:
    """Fréchet distance to the standard normal, for diagonal covariances."""
    mean, deviation = features.mean(axis=0), features.std(axis=0, ddof=1)
    return float((mean**2 + (deviation - 1) ** 2).sum())


def test_of_200_pairs_of_equal_settings_at_most_7_percent_differ() -> None:
    """Distances of feature sets with shared prompts, fresh noise for each of the two seeds."""
    rng, groups, different = np.random.default_rng(20), np.arange(256) % GROUPS, 0
    for _ in range(200):
        prompts = rng.normal(size=(256, 8))
        pair = []
        for seed in (1, 2):
            features = 0.3 + 0.8 * prompts + 0.8 * rng.normal(size=(256, 8))
            left_out = tuple(frechet(features[groups != g]) for g in range(GROUPS))
            fid = Score("fid", frechet(features), 0.0, 9.0, replicates=left_out)
            pair.append(run(f"s{seed}", {"fid": fid}, seed=seed))
        different += len(set(tiers(pair).values())) > 1
    assert different <= 14


def test_nine_equal_runs_are_rarely_split() -> None:
    """The best of nine is chosen on the same numbers: over all pairs, at most about 5 % of sweeps show a false tier."""
    split = 0
    for trial in range(200):
        shared = noise(trial)
        scores = [mean_score("fid", shared + 0.5 * noise(1000 + 9 * trial + cell)) for cell in range(9)]
        split += max(set(tiers([run(str(cell), {"fid": s}) for cell, s in enumerate(scores)]).values()), key=str) != 1
    assert split <= 14


def test_an_identical_run_is_no_different() -> None:
    score = {"fid": mean_score("fid", noise(1))}
    assert tiers([run("a", score), run("b", score)]) == {"a": 1, "b": 1}


def test_without_replicates_there_is_a_rank_but_no_tier() -> None:
    comparison = compare([run("a", {"fid": constant("fid", 2.0)}), run("b", {"fid": constant("fid", 1.0)})])
    assert [(entry.row.name, entry.tier) for entry in comparison.ranking] == [("b", None), ("a", None)]
    assert comparison.notes == ("2 of 2 runs have no replicates for fid, so no tier; evaluate them again.",)
    assert comparison.recommendation is not None
    assert comparison.recommendation.run is None
    assert comparison.recommendation.sentence == (
        "none yet. guidance 7.5 with 30 steps (run b) has the best fid, 1, but fid has no replicates by which runs are "
        "compared."
    )


def other_protocol(**label: object) -> Score:
    return mean_score("fid", noise(1), protocol="other", protocol_label=protocol_label({"metric": "fid", **label}))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (run("x", status="failed"), "failed; `t2i show x0000000` tells why"),
        (run("x", status="interrupted"), "not finished (interrupted); `t2i generate --resume x0000000` completes it"),
        (run("x", status="running"), "not finished (running); `t2i generate --resume x0000000` completes it"),
        (run("x"), "no fid; `t2i evaluate x0000000 --metrics fid` measures it"),
        (run("x", {"fid": constant("fid", float("nan"))}), "fid is nan"),
        (run("x", {"fid": other_protocol(n=64)}), "another protocol: n is 64, not 128"),
        (
            run("x", {"fid": other_protocol(n=128, extractor="inception")}),
            "another protocol: extractor is inception, not set",
        ),
        (
            run("x", {"fid": mean_score("fid", noise(1), protocol="abcdef0123", protocol_label="")}),
            "another protocol: measured with an unnamed protocol, not metric=fid · n=128",
        ),
        (
            run("x", {"fid": mean_score("fid", noise(1), protocol="abcdef0123")}),
            "another protocol: protocol abcdef01, not fid-p",
        ),
    ],
)
def test_what_cannot_be_ranked_is_listed_with_the_reason(row: RunRow, reason: str) -> None:
    comparison = compare([row, *sweep()])
    assert [(entry.row.name, entry.reason) for entry in comparison.excluded] == [("x", reason)]
    assert len(comparison.ranking) == 9


def test_of_two_equally_common_protocols_the_newer_is_ranked() -> None:
    old, new = run("old", {"fid": other_protocol(n=64)}), run("new", {"fid": mean_score("fid", noise(1))})
    assert [entry.row.name for entry in compare([old, new]).ranking] == ["new"]
    assert [entry.row.name for entry in compare([new, old]).ranking] == ["old"]


def test_protocol_labels_open_mappings_and_cut_hashes() -> None:
    fields = {"extractor": "inception", "weights_sha256": "a" * 64, "layer": None, "parameters": {"subsets": 100}}
    assert protocol_label(fields) == "extractor=inception · weights_sha256=aaaaaaaa · parameters.subsets=100"


@pytest.mark.parametrize(
    ("rows", "where", "message"),
    [
        ([], None, "no runs to compare; make some with `t2i generate` or `t2i sweep`"),
        ([run()], "guidance > 9", "none of 1 runs matches --where 'guidance > 9'; loosen the condition"),
        ([run()], None, "cannot rank 'a' by fid: no fid; `t2i evaluate a0000000 --metrics fid` measures it"),
        (
            [run("a"), run("b"), run("c", status="failed")],
            None,
            "none of 3 runs can be ranked by fid (2 no fid, 1 failed); `t2i evaluate RUN --metrics fid` measures a "
            "finished run",
        ),
    ],
)
def test_nothing_to_rank_is_said_in_one_sentence(rows: list[RunRow], where: str | None, message: str) -> None:
    with pytest.raises(CompareError) as caught:
        compare(rows, where=where)
    assert str(caught.value) == message


def test_one_run_is_ranked_alone() -> None:
    comparison = compare([run("a", {"fid": mean_score("fid", noise(1))})])
    assert [(entry.rank, entry.tier) for entry in comparison.ranking] == [(1, 1)]
    assert comparison.notes == ("One run can be ranked: there is nothing to compare it with.",)
    assert (comparison.frontier, comparison.effects, comparison.knee) == (None, (), None)


def test_different_manifests_are_compared_unpaired() -> None:
    hard = 5 * noise(0)
    a, b = (mean_score("fid", 20 + shift + hard + 0.1 * noise(shift)) for shift in (0, 1))
    assert tiers([run("a", {"fid": a}), run("b", {"fid": b})]) == {"a": 1, "b": 2}
    rows = [run("a", {"fid": a}), run("b", {"fid": b}, manifest="n" * 64)]
    assert tiers(rows) == {"a": 1, "b": 1}
    assert "2 different manifests" in compare(rows).notes[0]


def test_the_frontier_keeps_what_nothing_beats() -> None:
    def cell(name: str, fid: float, alignment: float, seconds: float) -> RunRow:
        scores = {"fid": constant("fid", fid), "alignment": constant("alignment", alignment)}
        return run(name, scores, seconds_per_image=seconds, steps=int(15 * seconds))

    rows = [
        cell("best", 10, 0.8, 2.0),
        cell("aligned", 12, 0.9, 2.0),
        cell("cheap", 14, 0.8, 1.0),
        cell("beaten", 15, 0.8, 2.0),
        cell("hardly-cheaper", 15, 0.8, 1.95),
    ]
    found = compare(rows).frontier
    assert found is not None
    assert found.objectives == ("fid", "alignment", "cost")
    assert [run[: run.index("0")] for run in found.runs] == ["best", "aligned", "cheap"]


def test_runs_of_equal_work_cost_the_same() -> None:
    """Neither a seed nor a guidance scale above 1 has a price: the timings of such runs are averaged, also for one that
    has none."""
    rows = [
        run("a", seed=1, seconds_per_image=1.0),
        run("b", seed=2, guidance=12.0, seconds_per_image=2.0),
        run("alone", guidance=1.0, seconds_per_image=0.5),
        run("half", steps=15, seconds_per_image=0.6),
        run("other-batch", batch_size=32, seconds_per_image=0.4),
        run("untimed", seconds_per_image=None),
    ]
    costs = cost_of_each(rows)
    found = {row.name: costs[row.run].seconds for row in rows}
    assert found == {"a": 1.5, "b": 1.5, "alone": 0.5, "half": 0.6, "other-batch": 0.4, "untimed": 1.5}


def test_two_runs_that_never_differ_are_not_known_to_be_equal() -> None:
    """No image of 128 scores otherwise: up to 2.8 % of all images may (Clopper & Pearson: 0.025 ** (1 / 128))."""
    same = (noise(0) > 0).astype(float)
    rows = [run("a", {"alignment": mean_score("alignment", same)}),
            run("b", {"alignment": mean_score("alignment", same)}, steps=60)]  # fmt: skip
    gap = compare(rows, "alignment").ranking[1].difference
    assert gap is not None
    assert (gap.estimate, gap.p_value) == (0.0, 1.0)
    assert gap.low == pytest.approx(-0.0284, abs=1e-4)
    assert gap.high == pytest.approx(0.0284, abs=1e-4)
    effect = next(found for found in compare(rows, "alignment").effects if found.axis == "steps")
    assert (effect.contrasts[0].change.low, effect.contrasts[0].change.high) == (gap.low, gap.high)


def test_main_effects_are_averaged_over_the_other_axis() -> None:
    effects = {(effect.axis, effect.metric): effect for effect in compare(sweep()).effects}
    assert set(effects) == {(a, m) for a in ("guidance", "steps") for m in ("fid", "alignment")}
    guidance = effects["guidance", "fid"]
    assert [(c.low, c.high, c.settings, c.verdict) for c in guidance.contrasts] == [
        (1.0, 3.0, 3, "better"),
        (3.0, 7.5, 3, "worse"),
    ]
    for contrast, truth in zip(guidance.contrasts, (-6.0, 1.0), strict=True):
        assert contrast.change.estimate == pytest.approx(truth, abs=0.2)
        assert contrast.change.low is not None
        assert contrast.change.high is not None
        assert contrast.change.high - contrast.change.low < 0.5
    values = [level.interval.estimate for level in guidance.levels]
    assert values[1] - values[0] == pytest.approx(guidance.contrasts[0].change.estimate)
    assert [c.verdict for c in effects["guidance", "alignment"].contrasts] == ["better", "better"]
    assert [c.verdict for c in effects["steps", "fid"].contrasts] == ["better", "cannot be told apart"]
    assert guidance.overall is not None
    assert guidance.overall.change.estimate == pytest.approx(-5.0, abs=0.2)
    assert guidance.sentence.startswith("Guidance and fid, averaged over 3 matched settings: from 1 to 3 it falls (-6")


def test_an_average_that_hides_an_interaction_says_so() -> None:
    def cell(guidance: float, steps: int, alignment: float) -> RunRow:
        values = alignment + 0.05 * noise(1) + 0.01 * noise(int(10 * guidance + steps))
        return run(
            f"{guidance}-{steps}", {"alignment": mean_score("alignment", values)}, guidance=guidance, steps=steps
        )

    rows = [cell(1, 8, 0.9), cell(1, 15, 0.9), cell(1, 30, 0.9), cell(3, 8, 0.5), cell(3, 15, 0.7), cell(3, 30, 0.95)]
    guidance = next(e for e in compare(rows, "alignment").effects if e.axis == "guidance")
    contrast = guidance.contrasts[0]
    assert contrast.verdict == "worse"
    assert [dict(one.settings) for one in contrast.exceptions] == [{"steps": 30}]
    assert contrast.exceptions[0].change.estimate == pytest.approx(0.05, abs=0.01)
    assert "worse, but at steps 30 it rises (+0.05" in guidance.sentence
    assert all(not c.exceptions for e in compare(sweep()).effects for c in e.contrasts)


def test_a_more_telling_score_is_named() -> None:
    fid = [mean_score("fid", 20 + 5 * noise(seed)) for seed in (1, 2)]
    alignment = [mean_score("alignment", level + 0.01 * noise(0)) for level in (0.5, 0.9)]
    rows = [run(str(n), {"fid": fid[n], "alignment": alignment[n]}, guidance=n + 1.0) for n in (0, 1)]
    notes = compare(rows).notes
    assert "with 128 images a run, but alignment tells some apart: `--by alignment`." in notes[0]
    rows = [replace(row, scores={"fid": row.scores["fid"]}) for row in rows]
    assert compare(rows).notes[0].endswith("with 128 images a run.")


def test_an_interval_beside_its_value_is_explained() -> None:
    score = replace(mean_score("fid", 500 + noise(0)), ci_low=200.0, ci_high=400.0)
    assert not score.holds_value
    assert any("biased" in note for note in compare([run("a", {"fid": score}), *sweep()]).notes)
    assert not any("biased" in note for note in compare(sweep()).notes)


def test_effects_of_an_incomplete_grid_use_the_matched_pairs() -> None:
    rows = [row for row in sweep() if (row.guidance, row.steps) != (7.5, 40)]
    guidance = next(e for e in compare(rows).effects if (e.axis, e.metric) == ("guidance", "fid"))
    assert [c.settings for c in guidance.contrasts] == [3, 2]
    assert guidance.contrasts[1].change.estimate == pytest.approx(1.0, abs=0.2)


def test_runs_that_differ_in_more_than_the_axis_give_no_effect() -> None:
    rows = [
        run(str(g), {"fid": mean_score("fid", noise(g))}, guidance=float(g), scheduler=f"s{g}", steps=10 * g)
        for g in (1, 2)
    ]
    assert compare(rows).effects == ()


def test_where_narrows_what_is_compared() -> None:
    assert [entry.row.guidance for entry in compare(sweep(), where="guidance > 3").ranking] == [7.5] * 3


KEYS = {
    "": "schema by direction level correction ranking excluded best margin detectable frontier effects tradeoff knee "
    "recommendation failures notes",
    "ranking": f"rank tier run name experiment sweep mlflow_run_id {' '.join(AXES)} manifest images seconds_per_image "
    "score to_best p_adjusted standing scores",
    "ranking.score": "name value ci_low ci_high n protocol protocol_label note",
    "ranking.to_best": "estimate low high standard_error p_value",
    "best": "estimate low high standard_error p_value",
    "excluded": "run name reason",
    "frontier": "objectives runs considered",
    "effects": "axis metric levels contrasts overall confidence sentence",
    "effects.levels": "level interval",
    "effects.contrasts": "low high change p_adjusted settings verdict exceptions",
    "tradeoff": "alignment diversity exchanges sentence",
    "tradeoff.exchanges": "low high alignment diversity settings verdict",
    "knee": "metric steps best_steps points settings sentence",
    "knee.points": "steps value to_best standing",
    "knee.points.standing": "verdict at_most images",
    "margin": "amount text default",
    "detectable": "difference images wanted images_for_wanted",
    "recommendation": "run sentence",
}


@pytest.mark.parametrize(("path", "keys"), KEYS.items())
def test_the_json_keeps_its_documented_schema(path: str, keys: str) -> None:
    record: Any = json.loads(as_json(compare([*with_diversity(sweep()), run("x", status="failed")])))
    assert record["schema"] == "t2i-track/compare/3"
    for name in filter(None, path.split(".")):
        record = record[name]
        record = record[-1] if isinstance(record, list) else record
    assert " ".join(record) == keys


def test_the_documentation_names_every_key() -> None:
    text = (Path(__file__).parents[1] / "docs" / "compare.md").read_text("utf-8")
    words = {word for keys in KEYS.values() for word in keys.split()} - set(AXES)
    assert "every setting that a sweep may vary" in text
    assert {word for word in words if f"`{word}`" not in text} == set()


def test_comparing_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'scipy', 'pandas', 'plotly', 'mlflow', 'sqlalchemy', 'click', 'PIL'}"
    code = f"import sys, t2i_track.ranking as c; print({heavy} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_helpers_of_the_tests_pair_as_runs_do() -> None:
    assert len(leave_out(noise(0, PROMPTS))) == GROUPS
    assert adjusted_p_values([mean_score("fid", noise(0))] * 2, ["m", "m"], 0.95)[0, 1] == 1.0
    assert varied(sweep()) == ["guidance", "steps"]


def test_two_that_differ_are_not_hidden_by_a_best_run_that_is_unsure() -> None:
    """None can be told from the noisy best; but the other two differ for certain, and so share no tier."""
    small = 0.1 * noise(1)
    rows = [
        run("a", {"fid": mean_score("fid", 0.5 + 20 * noise(2) - (20 * noise(2)).mean())}),
        run("b", {"fid": mean_score("fid", 1.0 + small)}, guidance=3.0),
        run("c", {"fid": mean_score("fid", 2.0 + small + 0.01 * noise(3))}, guidance=12.0),
    ]
    found = compare(rows)
    assert [entry.tier for entry in found.ranking] == [1, 1, 2]
    assert not any("can be told apart" in note for note in found.notes)
    alike = compare(rows[:2])
    assert any("No two of these runs can be told apart" in note for note in alike.notes)
