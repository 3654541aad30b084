"""The mathematics of audits: the tree, the bounds, the draw, and how often tampering is found."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, hypergeom

from t2i_track.images import png
from t2i_track.runs.bounds import bound, clopper_pearson, drawn, most_false
from t2i_track.runs.claims import BLOCK_TOLERANCE, Claim, Findings, block_difference, blocks, judge
from t2i_track.runs.merkle import canonical, leaf_hash, root
from t2i_track.runs.scored import check

WHOLE, SAMPLE, AUDITS = 400, 40, 200


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 2 ** ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


@pytest.mark.parametrize("number", [*range(0, 18), 33, 100])
def test_the_tree_is_that_of_rfc_6962(number: int) -> None:
    records = [{"b": i, "a": "ü"} for i in range(number)]
    assert root([leaf_hash(record) for record in records]) == by_definition([canonical(r) for r in records]).hex()


def test_known_trees() -> None:
    """Of certificate transparency's own test vectors: the empty tree, and the tree of one empty leaf."""
    assert root([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert by_definition([b""]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert canonical({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": math.nan})


def test_the_bound_of_a_hundred_that_agree() -> None:
    assert 100 * clopper_pearson(0, 100) == pytest.approx(2.9513, abs=1e-4)
    assert clopper_pearson(0, 100) == pytest.approx(1 - 0.05**0.01)
    assert clopper_pearson(3, 3) == 1.0


@pytest.mark.parametrize(("false", "looked"), [(0, 10), (1, 10), (5, 80), (9, 10)])
def test_clopper_pearson_by_its_definition(false: int, looked: int) -> None:
    assert binom.cdf(false, looked, clopper_pearson(false, looked)) == pytest.approx(0.05)


@pytest.mark.parametrize(("false", "looked", "whole"), [(0, 10, 20), (1, 10, 40), (0, 5, 5), (2, 30, 31), (3, 3, 9)])
def test_the_hypergeometric_bound_by_its_definition(false: int, looked: int, whole: int) -> None:
    possible = range(false, whole - looked + false + 1)
    expected = max(k for k in possible if k == false or hypergeom.cdf(false, whole, k, looked) > 0.05)
    assert most_false(false, looked, whole) == expected


def test_which_bound_is_used() -> None:
    assert bound(0, 100, 10_000).method == "Clopper-Pearson"
    assert bound(0, 100, 1000).method == "hypergeometric"
    assert bound(0, 100, 1000).share < clopper_pearson(0, 100)
    assert bound(0, 50, 50).share == 0
    with pytest.raises(ValueError, match="3 of 2 of 5"):
        bound(3, 2, 5)


def test_a_draw_is_repeatable_and_of_the_nonce() -> None:
    first = drawn("a", "run", 1000, 50)
    assert first == sorted(set(first)) == drawn("a", "run", 1000, 50)
    assert first != drawn("b", "run", 1000, 50)
    assert drawn("a", "run", 5, 50) == [0, 1, 2, 3, 4]
    counts = np.bincount([place for n in range(400) for place in drawn(str(n), "run", 20, 5)], minlength=20)
    assert counts.min() > 60  # of 100 expected, 4.6 standard deviations below
    assert counts.max() < 140


def test_blocks_tell_rounding_from_another_picture() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(2, 254, (30, 21, 3), dtype=np.uint8)
    rounded = (pixels + generator.integers(-2, 3, pixels.shape)).astype(np.uint8)
    assert len(blocks(pixels)) == 64
    assert block_difference(blocks(pixels), blocks(rounded)) <= BLOCK_TOLERANCE
    assert block_difference(blocks(pixels), blocks(pixels[::-1])) > BLOCK_TOLERANCE


def stub(claim: Claim) -> png.Pixels:
    """A sampler in place of a model: a picture of its prompt and seed."""
    seed = hashlib.sha256(f"{claim.record['prompt']}{claim.record['seed']}".encode()).digest()
    return np.frombuffer(seed[:12], np.uint8).reshape(2, 2, 3)


def claims() -> list[Claim]:
    records = [{"prompt": f"picture {i}", "seed": i} for i in range(WHOLE)]
    made = [Claim(name=str(i), record=record, pixels_sha256="") for i, record in enumerate(records)]
    return [claimed(claim, stub(claim)) for claim in made]


def claimed(claim: Claim, pixels: png.Pixels) -> Claim:
    return dataclasses.replace(claim, pixels_sha256=png.pixels_sha256(pixels), pixels=lambda: pixels)


def other_pixels(claim: Claim) -> Claim:
    return claimed(claim, stub(claim) ^ 128)


def other_prompt(claim: Claim) -> Claim:
    return dataclasses.replace(claim, record={**claim.record, "prompt": "a better one"})


def other_seed(claim: Claim) -> Claim:
    return dataclasses.replace(claim, record={**claim.record, "seed": 10**6})


@pytest.mark.parametrize("share", [0.01, 0.03, 0.10])
@pytest.mark.parametrize("tamper", [other_pixels, other_prompt, other_seed])
def test_tampering_is_found_as_often_as_chance_says(tamper: Callable[[Claim], Claim], share: float) -> None:
    """200 audits, each of a run of its own that was tampered with in other places; hashes were made to fit."""
    whole, false = claims(), round(share * WHOLE)
    generator = np.random.default_rng(round(1000 * share))
    found = 0
    for audit in range(AUDITS):
        tampered = set(generator.choice(WHOLE, false, replace=False).tolist())
        places = drawn(str(audit), "run", WHOLE, SAMPLE)
        some = [tamper(whole[place]) if place in tampered else whole[place] for place in places]
        findings = Findings(whole=WHOLE, nonce=str(audit), verdicts=list(judge(some, stub)))
        assert len(findings.disagreeing) == len(tampered.intersection(places)), "nothing true is called false"
        found += bool(findings.disagreeing)
    expected = 1 - hypergeom.pmf(0, WHOLE, false, SAMPLE)
    assert abs(found / AUDITS - expected) <= 4 * math.sqrt(expected * (1 - expected) / AUDITS) + 1e-9
    assert abs(expected - (1 - (1 - share) ** SAMPLE)) < 0.03, "close to the binomial's rate"


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Of audits of a run of which 3 % are false, at most 5 % may state a bound below that."""
    whole, false = WHOLE * 10, WHOLE * 10 * 3 // 100
    generator = np.random.default_rng(7)
    shown = generator.hypergeometric(false, whole - false, SAMPLE, size=2000)
    missed = np.mean([bound(int(k), SAMPLE, whole).share < false / whole for k in shown])
    assert missed <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_what_findings_say() -> None:
    pixels = np.full((8, 8, 3), 100, np.uint8)
    record = {"prompt": "a", "seed": 1}
    near, far = pixels.copy(), pixels.copy()
    near[0, 0, 0] += 2
    far[0, 0, 0] += 9
    base = Claim(name="x", record=record, pixels_sha256=png.pixels_sha256(pixels))
    some = [
        base,
        dataclasses.replace(base, pixels_sha256="0" * 64, pixels=lambda: near),
        dataclasses.replace(base, pixels_sha256="0" * 64, pixels=lambda: far),
        dataclasses.replace(base, pixels_sha256="0" * 64, blocks=blocks(near)),
        dataclasses.replace(base, pixels_sha256="0" * 64),
        dataclasses.replace(base, faults=("its seed is 7",)),
    ]
    findings = Findings(whole=1000, nonce="n", verdicts=list(judge(some, lambda _: pixels)))
    assert findings.distribution() == {
        "bit-equal": 2, "within 1": 0, "within 2": 1, "alike by blocks": 1, "more or unknown": 2,
    }  # fmt: skip
    assert [verdict.faults for verdict in findings.disagreeing] == [
        ("made again, it differs by up to 9 of 255",), ("made again, other pixels",), ("its seed is 7",),
    ]  # fmt: skip
    assert findings.proves().startswith(
        "3 of 6 agree within 2 of 255, 1 of them only by the mean colours of blocks, within 3: at most "
    )
    assert Findings(whole=9999, nonce="n", verdicts=findings.verdicts[:1] * 100).proves() == (
        "all 100 agree within 2 of 255: at most 2.95 % of the run can be false at 95 % (Clopper-Pearson, 100 of 9999)"
    )


@pytest.mark.parametrize("share", [0.01, 0.03, 0.10])
def test_scores_that_were_raised_no_longer_have_their_mean(share: float) -> None:
    """All of them are looked at, not a sample: found whenever any was changed, whichever it was."""
    generator = np.random.default_rng(1)
    for _ in range(AUDITS):
        single = generator.random(WHOLE)
        mean = float(single.mean())
        assert check("clip_score", "p", mean, WHOLE, single.tolist()).agrees
        single[generator.choice(WHOLE, round(share * WHOLE), replace=False)] += 1e-4
        assert check("clip_score", "p", mean, WHOLE, single.tolist()).agrees is False
    assert check("fid", "p", 1.0, WHOLE, []).agrees is None
