import re
from dataclasses import replace

import numpy as np
import pytest
from ranking_rows import VENDI, constant, mean_score, noise, run, sweep, with_diversity

from t2i_track.metrics.registry import diverse, of_role
from t2i_track.ranking import Comparison, RunRow, compare
from t2i_track.ranking.describe import findings
from t2i_track.ranking.effects import effect
from t2i_track.ranking.tradeoff import tradeoff

FLAT = dict.fromkeys(VENDI, 10.0)


def measured(**scores: dict[float, float]) -> list[RunRow]:
    """A run for each guidance, with each score at its level there."""
    levels = next(iter(scores.values()))
    return [
        run(
            f"g{guidance:g}",
            {
                name: mean_score(name, at[guidance] + 0.02 * noise(0) + 0.01 * noise(100 * place + n))
                for n, (name, at) in enumerate(scores.items())
            },
            guidance=guidance,
        )
        for place, guidance in enumerate(levels)
    ]


def verdicts(rows: list[RunRow], by: str | None = "alignment") -> list[tuple[float, float, str]]:
    found = compare(rows, by).tradeoff
    return [(one.low, one.high, one.verdict) for one in found.exchanges] if found else []


def shown(comparison: Comparison) -> set[str]:
    return {effect.metric for effect in comparison.effects}


def test_diversity_has_its_effects_beside_quality_and_alignment() -> None:
    comparison = compare(with_diversity(sweep()))
    assert [(effect.metric, effect.axis) for effect in comparison.effects] == [
        (metric, axis) for metric in ("fid", "alignment", "vendi") for axis in ("guidance", "steps")
    ]
    assert [c.verdict for c in comparison.effects[4].contrasts] == ["worse", "worse"]
    assert [c.verdict for c in comparison.effects[5].contrasts] == ["cannot be told apart"] * 2


def test_the_diversity_within_prompts_is_preferred_and_then_that_of_the_images_alone() -> None:
    assert sorted(diverse()) == sorted(of_role("diversity"))
    assert diverse()[:2] == ("prompt_spread", "vendi")
    level = {1.0: 0.5, 3.0: 0.6}
    rows = measured(alignment=level, recall=level, vendi=level, prompt_spread=level)
    assert shown(compare(rows, "alignment")) == {"alignment", "prompt_spread"}
    assert shown(compare(measured(alignment=level, recall=level, vendi=level), "alignment")) == {"alignment", "vendi"}
    one = [rows[0], *measured(alignment=level, recall=level)[1:]]
    assert shown(compare(one, "alignment")) == {"alignment", "recall"}


def test_a_ranked_diversity_needs_no_other_beside_it() -> None:
    level = {1.0: 0.5, 3.0: 0.6}
    comparison = compare(measured(vendi=level, prompt_spread=level, alignment=level), "vendi")
    assert shown(comparison) == {"vendi", "alignment"}
    assert comparison.tradeoff is not None
    assert (comparison.tradeoff.alignment, comparison.tradeoff.diversity) == ("alignment", "vendi")


@pytest.mark.parametrize(
    ("alignment", "vendi", "verdict", "words"),
    [
        ((0.5, 0.9), (12, 10), "costs diversity", "rises .* falls .*: following the prompt better costs diversity."),
        ((0.9, 0.5), (10, 12), "costs alignment", "falls .* rises .*: the prompt is followed less and the pictures"),
        ((0.5, 0.9), (10, 12), "gains both", "alignment rises .* vendi rises .*: both gain."),
        ((0.9, 0.5), (12, 10), "costs both", "alignment falls .* vendi falls .*: both lose."),
    ],
)
def test_what_is_given_and_what_is_got(
    alignment: tuple[float, float], vendi: tuple[float, float], verdict: str, words: str
) -> None:
    rows = measured(
        alignment=dict(zip((1.0, 12.0), alignment, strict=True)), vendi=dict(zip((1.0, 12.0), vendi, strict=True))
    )
    found = compare(rows, "alignment").tradeoff
    assert found is not None
    assert [one.verdict for one in found.exchanges] == [verdict]
    assert re.match(f"From guidance 1 to 12 .*{words}", found.sentence)


def test_the_numbers_are_those_of_the_effects() -> None:
    comparison = compare(with_diversity(sweep()), "alignment")
    found = comparison.tradeoff
    assert found is not None
    effects = {effect.metric: effect for effect in comparison.effects if effect.axis == "guidance"}
    [one] = found.exchanges
    assert effects["alignment"].overall is not None
    assert effects["vendi"].overall is not None
    assert (one.alignment, one.diversity) == (effects["alignment"].overall.change, effects["vendi"].overall.change)
    assert found.sentence.startswith("From guidance 1 to 7.5, averaged over 3 matched settings, alignment rises (+0.4")
    assert found.sentence in findings(comparison)


@pytest.mark.parametrize("by", ["fid", "alignment", "vendi"])
@pytest.mark.parametrize("flat", ["alignment", "vendi"])
def test_nothing_is_said_where_one_of_the_two_is_not_certain(by: str, flat: str) -> None:
    rows = measured(
        fid={1.0: 20.0, 3.0: 15.0, 7.5: 10.0},
        alignment=FLAT if flat == "alignment" else {1.0: 0.5, 3.0: 0.7, 7.5: 0.9},
        vendi=FLAT if flat == "vendi" else VENDI,
    )
    comparison = compare(rows, by)
    assert {"alignment", "vendi"} <= shown(comparison)
    assert comparison.tradeoff is None


@pytest.mark.parametrize("missing", ["alignment", "vendi"])
def test_nothing_is_said_where_one_of_the_two_is_not_measured(missing: str) -> None:
    scores = {"fid": {1.0: 20.0, 3.0: 10.0}, "alignment": {1.0: 0.5, 3.0: 0.9}, "vendi": {1.0: 12.0, 3.0: 10.0}}
    assert compare(measured(**scores), "fid").tradeoff
    comparison = compare(measured(**{name: at for name, at in scores.items() if name != missing}), "fid")
    assert missing not in shown(comparison)
    assert comparison.tradeoff is None


def test_steps_are_no_choice_between_alignment_and_diversity() -> None:
    rows = [
        replace(row, guidance=7.5, steps=int(10 * row.guidance))
        for row in measured(alignment={1.0: 0.5, 3.0: 0.9}, vendi={1.0: 12.0, 3.0: 10.0})
    ]
    comparison = compare(rows, "alignment")
    assert {(e.axis, e.metric, e.contrasts[0].verdict) for e in comparison.effects} == {
        ("steps", "alignment", "better"), ("steps", "vendi", "worse"),
    }  # fmt: skip
    assert comparison.tradeoff is None


def test_nothing_is_said_of_scores_without_replicates() -> None:
    rows = measured(alignment={1.0: 0.5, 3.0: 0.9}, vendi={1.0: 12.0, 3.0: 10.0})
    assert verdicts(rows) == [(1.0, 3.0, "costs diversity")]
    bare = [replace(row, scores={**row.scores, "vendi": constant("vendi", row.scores["vendi"].value)}) for row in rows]
    assert verdicts(bare) == []


def test_neighbours_that_go_different_ways_are_told_apart() -> None:
    rows = measured(alignment={1.0: 0.7, 1.5: 0.9, 3.0: 0.5}, prompt_spread={1.0: 30.0, 1.5: 25.0, 3.0: 60.0})
    assert verdicts(rows) == [(1.0, 1.5, "costs diversity"), (1.5, 3.0, "costs alignment")]
    found = compare(rows, "alignment").tradeoff
    assert found is not None
    assert "costs diversity; from 1.5 to 3 alignment falls" in found.sentence


def test_a_change_between_two_neighbours_only_is_said_of_these() -> None:
    rows = measured(alignment={1.0: 0.5, 3.0: 0.9, 12.0: 0.5}, vendi={1.0: 12.0, 3.0: 10.0, 12.0: 10.0})
    assert verdicts(rows) == [(1.0, 3.0, "costs diversity")]


def test_a_diversity_that_never_changes_is_rarely_said_to_be_paid() -> None:
    """Of the pairs of three guidances any may be chosen, so all are allowed for: in at most about 5 % of 400 sweeps."""
    said = 0
    for trial in range(400):
        rng = np.random.default_rng(trial)
        rows = [
            run(
                f"g{guidance:g}",
                {
                    "alignment": mean_score("alignment", level + 0.01 * rng.normal(size=64)),
                    "vendi": mean_score("vendi", 10 + rng.normal(size=64)),
                },
                guidance=guidance,
            )
            for guidance, level in ((1.0, 0.5), (3.0, 0.7), (12.0, 0.9))
        ]
        effects = [effect(rows, "guidance", name, 0.95) for name in ("alignment", "vendi")]
        said += tradeoff([found for found in effects if found]) is not None
    assert 0 < said <= 0.06 * 400
