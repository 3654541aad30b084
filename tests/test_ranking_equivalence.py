import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from ranking_rows import mean_score, noise, run

from benchmarks.equivalence import false_claims
from t2i_track.errors import CompareError
from t2i_track.ranking import Equivalence, ImageRow, RunRow, Score
from t2i_track.ranking.describe_equivalence import compared, findings, heads, worst
from t2i_track.ranking.equivalence import equivalence
from t2i_track.ranking.limits import known
from t2i_track.ranking.speed import SpeedUp, Spent, speed_up
from t2i_track.ranking.student import student_quantile
from t2i_track.ranking.tost import decide

Column = NDArray[np.float64]
SIZE = 512
SHARE = (-1.0, 1.0)
"""Bounds of what is a share."""
BASE = 0.8 + 0.1 * noise(0, SIZE).clip(-2, 2)


def scored(name: str, values: Column, metric: str = "alignment", **fields: object) -> RunRow:
    score = replace(mean_score(metric, values), parts=values)
    return run(name, {metric: score}, images=len(values), **fields)


def held(*values: Column, base: Column = BASE, metric: str = "alignment", **options: object) -> Equivalence:
    rows = [scored(f"r{place}", one, metric, steps=20 + place) for place, one in enumerate(values)]
    return equivalence(scored("base", base, metric), rows, **options)  # type: ignore[arg-type]


def verdicts(found: Equivalence) -> list[str]:
    return [one.verdict for one in found.candidates]


@pytest.mark.parametrize("size", [16, 64, 149, 1000])
def test_of_numbers_that_are_all_0_the_limit_is_clopper_and_pearsons(size: int) -> None:
    found = known(np.zeros(size), SHARE)
    low, high = found.limits(0.05)
    assert low == -high
    assert high == pytest.approx(1 - 0.05 ** (1 / size), rel=0.04)


def test_of_many_numbers_the_limits_are_students() -> None:
    numbers = 0.1 * noise(3, 4096)
    low, high = known(numbers, SHARE).limits(0.05)
    reach = student_quantile(0.90, 4095) * numbers.std(ddof=1) / 64
    assert low == pytest.approx(numbers.mean() - reach, abs=0.15 * reach)
    assert high == pytest.approx(numbers.mean() + reach, abs=0.15 * reach)


@pytest.mark.parametrize("bound", [(-1.0, 1.0), None])
def test_p_values_and_limits_agree(bound: tuple[float, float] | None) -> None:
    found = known(0.1 * noise(5, 32), bound)
    for alpha in (0.01, 0.05):
        low, high = found.limits(alpha)
        assert found.above(low - 1e-9) <= alpha < found.above(low + 1e-9)
        assert found.below(high + 1e-9) <= alpha < found.below(high - 1e-9)


def test_without_a_bound_no_limit_is_closer_than_students() -> None:
    skewed = np.random.default_rng(0).exponential(size=32)
    low, high = known(skewed, None).limits(0.05)
    reach = student_quantile(0.90, 31) * skewed.std(ddof=1) / np.sqrt(32)
    assert low == pytest.approx(skewed.mean() - reach)
    assert high > skewed.mean() + 1.15 * reach  # the tail that 32 numbers hardly show


def test_one_number_that_differs_says_nothing_without_a_bound() -> None:
    assert known(np.r_[np.zeros(31), 1.0], None).limits(0.05)[1] == np.inf
    assert known(np.r_[np.zeros(31), -1.0], None).limits(0.05)[0] == -np.inf


def test_equivalent_worse_better_and_undecided() -> None:
    small, large = 0.02 * noise(1, SIZE), 0.3 * noise(2, SIZE)
    found = held(BASE + small, BASE - 0.1 + small, BASE + 0.1 + small, BASE - 0.01 + large - large.mean(), within=0.02)
    assert verdicts(found) == ["equivalent", "worse", "better", "undecided"]
    assert [one.images is not None for one in found.candidates] == [False, False, False, True]
    gap = found.candidates[1].paired.change
    assert gap is not None
    assert gap.low is not None
    assert gap.low < -0.1 < float(gap.high or 0)


def test_lower_scores_are_better_where_they_are() -> None:
    def distance(name: str, worse: float, seed: int) -> RunRow:
        score = mean_score("kid_mean", 10 + worse + 0.1 * noise(seed, 256))
        return run(name, {"kid_mean": score}, images=256, steps=10 + seed)

    found = equivalence(
        distance("a", 0, 0), [distance("b", 1, 1), distance("c", -1, 2), distance("d", 0, 3)], within=0.5
    )
    assert verdicts(found) == ["worse", "better", "equivalent"]
    assert found.candidates[0].paired.change is not None
    assert found.candidates[0].paired.change.estimate > 0


def test_a_run_without_a_failure_in_few_prompts_is_not_shown_to_have_none() -> None:
    few, many = np.ones(128), np.ones(160)
    assert verdicts(held(few, base=few, within=0.02)) == ["undecided"]
    assert verdicts(held(many, base=many, within=0.02)) == ["equivalent"]
    wanted = held(few, base=few, within=0.02).candidates[0].images
    assert wanted is not None
    assert 145 <= wanted <= 165


def test_several_runs_are_corrected() -> None:
    """One that is just equivalent alone is not where nine others might be taken for it."""
    alone = BASE + 0.17 * noise(1, SIZE) - 0.17 * noise(1, SIZE).mean()
    assert verdicts(held(alone, within=0.02)) == ["equivalent"]
    others = [BASE - 0.02 + 0.17 * noise(2 + place, SIZE) for place in range(9)]
    found = held(alone, *others, within=0.02)
    assert found.candidates[0].verdict == "undecided"
    assert "corrected for several runs" in " ".join(found.notes)


def test_so_many_images_decide_as_often_as_was_said() -> None:
    rng = np.random.default_rng(0)

    def gaps(size: int) -> Column:
        return np.asarray(rng.choice([-0.25, 0.0, 0.25], size, p=(0.1, 0.8, 0.1)))

    pilot = np.repeat([-0.25, 0.0, 0.25], (13, 102, 13))
    (found,) = decide([known(pilot, SHARE)], 0.02, 0.05)
    assert found.times is not None
    shown = [decide([known(gaps(int(found.times * 128)), SHARE)], 0.02, 0.05)[0].verdict for _ in range(200)]
    assert 0.7 <= shown.count("equivalent") / 200 <= 0.92


@pytest.mark.parametrize(
    ("world", "prompts"), [("differences lognormal to the worse", 64), ("fractions, 0.97, rarely all wrong", 128)]
)
def test_a_false_equivalent_is_rare(world: str, prompts: int) -> None:
    line = false_claims(world, prompts, 1, 200)
    assert float(line.split("|")[4].strip().removesuffix("%")) <= 7.5  # 5 % and 1.6 standard deviations of 200 trials


def test_the_margin_is_a_quarter_of_what_a_seed_changes() -> None:
    other = scored("other", BASE + 0.2 * noise(9, SIZE), seed=43)
    found = held(BASE, others=[other])
    assert found.margin.source == "seeds"
    assert found.margin.spread == pytest.approx(0.2 / np.sqrt(2), rel=0.05)
    assert found.margin.amount == pytest.approx(0.25 * (found.margin.spread or 0))
    assert heads(found)[1].endswith("a picture by 1 run of another seed)")


def test_a_run_of_another_protocol_tells_no_spread() -> None:
    other = scored("other", BASE + 0.2 * noise(9, SIZE), seed=43)
    other = replace(other, scores={"alignment": replace(other.scores["alignment"], protocol="else")})
    assert held(BASE, others=[other]).margin.source == "default"


def pictures(name: str, values: Column, replicates: int = 1, spread: float = 0.0) -> list[ImageRow]:
    uuid = f"{name:0<32}"
    return [
        ImageRow(
            uuid, place, r, f"prompt {place}", place, Path(f"{name}/{place}-{r}.png"), {},
            {"alignment": float(value + spread * (-1) ** r)}, {"alignment": "alignment-p"},
        )
        for place, value in enumerate(values) for r in range(replicates)
    ]  # fmt: skip


def test_several_pictures_of_a_prompt_tell_the_spread_too() -> None:
    found = held(BASE, images=pictures("base", BASE, 2, 0.1))
    assert found.margin.spread == pytest.approx(0.1 * np.sqrt(2))
    assert "the base's own pictures" in found.margin.text


@pytest.mark.parametrize(("within", "amount", "text"), [("0.03", 0.03, "0.03"), ("2%", 0.016, "0.016 (2%)")])
def test_a_given_margin_is_taken(within: str, amount: float, text: str) -> None:
    found = held(BASE, within=within, others=[scored("other", BASE + 0.2 * noise(9, SIZE), seed=43)])
    assert found.margin.source == "given"
    assert found.margin.amount == pytest.approx(amount, rel=0.02)
    assert found.margin.words == text


def test_the_worst_prompts_are_those_that_lose_most() -> None:
    theirs = BASE.copy()
    theirs[[3, 7, 11]] -= (0.1, 0.3, 0.2)
    theirs[5] += 0.5
    found = held(theirs, images=[*pictures("base", BASE), *pictures("r0", theirs)])
    assert [item.prompt_index for item in found.candidates[0].worst] == [7, 11, 3]
    assert [line[1] for line in worst(found)] == ["7", "11", "3"]
    assert found.candidates[0].worst[0].a_path == Path("base/7-0.png")


def test_prompts_in_common_are_compared_where_a_run_has_more() -> None:
    longer = np.r_[BASE[:100], BASE]
    base, more = scored("base", BASE), scored("r0", longer)
    ours, theirs = base.scores["alignment"], more.scores["alignment"]
    more = replace(more, scores={"alignment": replace(theirs, protocol="more")})
    assert (ours.protocol_label, theirs.protocol_label) == ("metric=alignment · n=512", "metric=alignment · n=612")
    images = [*pictures("base", BASE), *pictures("r0", np.r_[BASE, BASE[:100]])]
    found = equivalence(base, [more], images, within=0.02)
    assert verdicts(found) == ["equivalent"]
    assert found.candidates[0].paired.note == "over the 512 prompts in common"


def test_what_cannot_be_compared_is_unknown_with_the_reason() -> None:
    rows = [
        run("bare", {}, images=SIZE),
        scored("short", BASE[:5]),
        run("else", {"alignment": replace(mean_score("alignment", BASE), protocol="q", protocol_label="resize=x")}),
    ]
    found = equivalence(scored("base", BASE), rows)
    assert verdicts(found) == ["unknown"] * 3
    assert [one.paired.note for one in found.candidates] == [
        "it has no alignment",
        "no prompts in common that have a score of their own",
        "another protocol: metric is not set, not alignment, n is not set, not 512, resize is x, not set",
    ]
    assert found.candidates[0].decision.p_equivalent is None


def test_a_score_whose_bias_stays_is_refused() -> None:
    base = run("base", {"vendi": mean_score("vendi", 5 + noise(0))})
    with pytest.raises(CompareError, match="vendi cannot show that runs are equivalent: choose --by one of"):
        equivalence(base, [run("b", {"vendi": mean_score("vendi", 5 + noise(1))})], by="vendi")


def test_a_distance_without_an_interval_decides_nothing() -> None:
    scores = [Score("fid", 20.0, None, None, 64, "p", "l", tuple(20 + 0.1 * noise(seed, 32))) for seed in (0, 1)]
    found = equivalence(run("base", {"fid": scores[0]}), [run("b", {"fid": scores[1]})], by="fid")
    assert verdicts(found) == ["unknown"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no run to hold against the base"),
        ([scored("base", BASE)], r"run 'base' \(base0000\) is the base"),
        ([run("b", {})], "no score in common with 'base'"),
    ],
)
def test_what_makes_no_sense_is_refused(rows: list[RunRow], message: str) -> None:
    with pytest.raises(CompareError, match=message):
        equivalence(scored("base", BASE), rows)


def test_other_scores_by_which_a_run_is_surely_worse_are_named() -> None:
    base, fast = scored("base", BASE), scored("r0", BASE + 0.01 * noise(1, SIZE), steps=8)
    kid = [mean_score("kid_mean", 10 + worse + 0.1 * noise(seed, 256)) for worse, seed in ((0, 4), (6, 5))]
    base, fast = (
        replace(row, scores={**row.scores, "kid_mean": one}) for row, one in zip((base, fast), kid, strict=True)
    )
    found = equivalence(base, [fast])
    assert found.candidates[0].worse_by == ("kid_mean",)
    assert "r0 is worse by kid_mean" in " ".join(findings(found))


def test_the_speed_up_has_an_interval_over_blocks_of_batches() -> None:
    rng = np.random.default_rng(0)
    base, fast = (Spent(tuple(level * np.exp(0.05 * rng.normal(size=33)))) for level in (0.3, 0.2))
    found = speed_up(base, fast, 0.95)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1.5 < found.high
    assert found.high / found.low < 1.2


def test_the_first_batch_is_left_out_of_several() -> None:
    assert speed_up(Spent((9.0, 1.0, 1.0, 1.0)), Spent((9.0, 0.5, 0.5, 0.5)), 0.95) == SpeedUp(2.0, 2.0, 2.0)
    assert speed_up(Spent((2.0,)), Spent((1.0,)), 0.95) == SpeedUp(2.0)
    assert speed_up(Spent(), Spent((1.0,)), 0.95) is None


def test_times_that_drift_make_the_interval_wide() -> None:
    """A machine that is slow for half of a run: batches are not independent, and blocks show it."""
    drift = np.r_[np.full(32, 1.0), np.full(32, 2.0)]
    found = speed_up(Spent((1.0, *drift)), Spent((1.0, *np.full(64, 1.0))), 0.95)
    assert found is not None
    assert found.low is not None
    assert found.low < 1.15


def test_words_of_each_verdict() -> None:
    small, large = 0.02 * noise(1, SIZE), 0.3 * noise(2, SIZE)
    rows = {"base": Spent((0.4,) * 9, 900.0), "r0": Spent((0.2,) * 9, 700.0, False, 12.5)}
    found = held(
        BASE + small - small.mean(), BASE - 0.1 + small - small.mean(), BASE + large - large.mean(), within=0.02,
        spent={f"{name:0<32}": one for name, one in rows.items()},
    )  # fmt: skip
    titles, cells = compared(found)
    assert heads(found)[0].endswith("512 images; 0.4 s an image, 900 MB")
    assert titles[:5] == ["run", "differs in", "alignment", "from the base (90% interval)", "verdict"]
    assert titles[5:] == ["speed-up", "memory, MB", "J/image"]
    assert [line[4].split(":")[0] for line in cells] == [
        "equivalent within the margin",
        "worse by 0.093 to 0.11",
        "undecided",
    ]
    assert cells[0][1] == "steps 20"
    assert cells[0][5:] == ["2x [2, 2]", "700", "12.5"]
    assert cells[1][5:] == ["", "", ""]
    said = findings(found)
    assert "steps 20: as good as the base in alignment, within 0.02 (95% sure); 2 times [2, 2] as fast." in said
    assert any(line.startswith("Note: The peak memory of a run that was not the first") for line in said)
    assert any(line.startswith("Note: Each run was timed once") for line in said)


def test_runs_that_differ_in_the_seed_are_told() -> None:
    found = equivalence(scored("base", BASE), [scored("other", BASE + 0.01 * noise(1, SIZE), seed=43)])
    assert "other (other000) differs in the seed, and in nothing else: it shows what chance does." in found.notes


KEYS = "schema base by direction level correction margin candidates worst_by notes"
CANDIDATE = (
    "run name images differing base_value value change prompts verdict p_equivalent p_worse p_better at_most"
    " images_to_decide note worse_by speed_up seconds_per_image batches peak_memory_mb joules_per_image worst"
)


def test_the_json_keeps_its_documented_schema() -> None:
    found = held(BASE, images=[*pictures("base", BASE), *pictures("r0", BASE - 0.1)])
    record = json.loads(json.dumps(found.to_dict()))
    assert record["schema"] == "t2i-track/equivalence/1"
    assert " ".join(record) == KEYS
    assert " ".join(record["candidates"][0]) == CANDIDATE
    assert " ".join(record["margin"]) == "amount text source spread"
    assert len(record["candidates"][0]["worst"]) == 10
    assert found.to_frame().columns[0] == "run"


def test_a_score_that_no_run_has_is_named() -> None:
    with pytest.raises(CompareError, match="run 'base' has no clip_score"):
        equivalence(scored("base", BASE), [scored("b", BASE)], by="clip_score")
