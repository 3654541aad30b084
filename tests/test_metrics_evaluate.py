"""Pictures in, scores out: parity with torch-fidelity, what is kept, and what a user is told."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_pictures import SIDE, draw, items_of, run
from PIL import Image

from t2i_track.errors import ExtractorUnavailable, MetricError
from t2i_track.metrics.cache import FeatureStore, prune_cache
from t2i_track.metrics.evaluate import EvaluationResult, evaluate, plan
from t2i_track.metrics.extractors import resolve
from t2i_track.metrics.features import picture_features
from t2i_track.metrics.measurable import default_metrics
from t2i_track.metrics.reference import Reference, open_reference
from t2i_track.metrics.scores.fid import statistics

FID_GROUP = ["fid", "is", "kid", "prc"]
THEIRS = {
    "fid": "frechet_inception_distance",
    "inception_score_mean": "inception_score_mean",
    "inception_score_std": "inception_score_std",
    "kid_mean": "kernel_inception_distance_mean",
    "kid_std": "kernel_inception_distance_std",
    "precision": "precision",
    "recall": "recall",
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("run") / "ours", 50, 1)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("reference") / "theirs", 60, 2, top=120)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Warm: the features of both folders are made once for this module."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def reference(theirs: Path, cache: Path) -> Reference:
    return open_reference(theirs, cache)


@pytest.fixture(scope="module")
def result(ours: Path, reference: Reference, cache: Path) -> EvaluationResult:
    return evaluate(items_of(ours), metrics=FID_GROUP, reference=reference, cache_dir=cache)


def values(found: EvaluationResult) -> dict[str, float]:
    return {r.name: r.value for r in found.results}


def test_equals_torch_fidelity(ours: Path, theirs: Path, result: EvaluationResult) -> None:
    from torch_fidelity import calculate_metrics

    from t2i_track.shapes.fidelity import register

    wanted = calculate_metrics(
        input1=str(ours),
        input2=str(theirs),
        feature_extractor=register(),
        **dict.fromkeys(("fid", "isc", "kid", "prc"), True),
        kid_subset_size=50,
        batch_size=16,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    found = values(result)
    assert found == pytest.approx({name: wanted[key] for name, key in THEIRS.items()}, rel=1e-6)


def test_every_score_says_with_what(result: EvaluationResult) -> None:
    fid = result.results[0]
    assert (fid.name, fid.n, fid.protocol.extractor, fid.protocol.layer) == ("fid", 50, "shapes", "features")
    assert (fid.protocol.n, fid.protocol.reference_n) == (50, 60)
    assert fid.protocol.resize == "64x64 bilinear, then 64x64 bilinear"
    assert set(fid.protocol.versions) == {"config_sha256", "pillow", "torch"}
    assert fid.replicates is not None
    assert len(fid.replicates) == 32
    kid = next(r for r in result.results if r.name == "kid_mean")
    assert kid.protocol.parameters == {"kid_subsets": 100, "kid_subset_size": 50}


def test_intervals_hold_their_values_or_say_why_not(result: EvaluationResult) -> None:
    for r in result.results:
        if r.name in {"fid", "kid_std", "inception_score_std"}:
            assert (r.ci_low, r.ci_high) == (None, None)
            assert r.note
        else:
            assert r.ci_low is not None
            assert r.ci_high is not None
            assert r.ci_low <= r.value <= r.ci_high


def test_order_does_not_matter(ours: Path, reference: Reference, result: EvaluationResult, tmp_path: Path) -> None:
    images = items_of(ours)
    shuffled = [images[i] for i in np.random.default_rng(0).permutation(len(images))]
    turned = replace(reference, items=reference.items[::-1])
    found = evaluate(shuffled, metrics=["fid", "is", "prc"], reference=turned, cache_dir=tmp_path)
    expected = {name: value for name, value in values(result).items() if not name.startswith("kid")}
    assert values(found) == pytest.approx(expected, rel=1e-9)
    # KID draws its subsets by position, so the reference's order counts, as it does in torch-fidelity.
    again = evaluate(shuffled, metrics=["kid"], reference=reference, cache_dir=tmp_path)
    assert values(again)["kid_mean"] == values(result)["kid_mean"]


def test_features_do_not_depend_on_the_pictures_beside(
    ours: Path, result: EvaluationResult, cache: Path, tmp_path: Path
) -> None:
    extractor, images = resolve("shapes", cache), items_of(ours)
    together = FeatureStore(extractor.folder(cache, (SIDE, SIDE))).rows([image.sha256 for image in images])
    for chosen in (images[3:4], images[20:31][::-1]):
        store, _ = picture_features(extractor, chosen, (SIDE, SIDE), tmp_path)
        alone = store.rows([image.sha256 for image in chosen]).take("features")
        rows = np.array([images.index(image) for image in chosen])
        assert np.array_equal(alone, together.take("features", rows))


def test_known_values_are_left_out(ours: Path, reference: Reference, result: EvaluationResult, cache: Path) -> None:
    known = {(r.name, r.protocol.fingerprint): r.value for r in result.results}
    again = evaluate(items_of(ours), metrics=FID_GROUP, reference=reference, cache_dir=cache, known=known)
    assert again == EvaluationResult([], [])
    del known["fid", result.results[0].protocol.fingerprint]
    again = evaluate(items_of(ours), metrics=FID_GROUP, reference=reference, cache_dir=cache, known=known)
    assert [r.name for r in again.results] == ["fid"]


def test_plan_is_what_evaluate_records(ours: Path, reference: Reference, result: EvaluationResult, cache: Path) -> None:
    planned = plan(items_of(ours), metrics=FID_GROUP, reference=reference, cache_dir=cache)
    assert {r.protocol.fingerprint for r in result.results} == {p.fingerprint for p in planned.values()}


def test_a_second_evaluation_needs_no_torch(ours: Path, theirs: Path, result: EvaluationResult, cache: Path) -> None:
    code = f"""
import sys, hashlib
from pathlib import Path
from t2i_track.metrics.evaluate import evaluate
from t2i_track.metrics.extractors import resolve
from t2i_track.metrics.features import picture_features
from t2i_track.metrics.scores.fid import statistics
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.reference import open_reference
images = [ImageItem(p, hashlib.sha256(p.read_bytes()).hexdigest(), f"a red circle {{i}}", i)
          for i, p in enumerate(sorted(Path({str(ours)!r}).iterdir()))]
cache = Path({str(cache)!r})
found = evaluate(images, metrics={FID_GROUP!r}, reference=open_reference({str(theirs)!r}, cache), cache_dir=cache)
print(repr(found.results[0].value), "torch" in sys.modules, "torch_fidelity" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [repr(result.results[0].value), "False", "False"]


def test_growing_a_run_extracts_only_the_new_images(ours: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    images = items_of(ours)
    run(images[:20], tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(16, 20), (20, 20)]
    seen.clear()
    run(images[:24], tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 4)]


def test_a_picture_that_appears_twice_is_extracted_once(ours: Path, tmp_path: Path) -> None:
    images = items_of(ours)[:20]
    twice = images + [replace(image, prompt_index=image.prompt_index + 20) for image in images]
    seen: list[tuple[int, int]] = []
    found = run(twice, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (20, 20)
    assert found.results[0].n == 40


def test_a_metric_that_these_images_do_not_allow(ours: Path, reference: Reference, cache: Path) -> None:
    images = items_of(ours)[:5]
    found = run(images, cache, metrics=["is", "fid"], reference=reference)
    assert [r.name for r in found.results] == ["fid"]
    assert found.warnings == ["is was not measured: inception score over 10 splits needs at least 10 pictures, not 5"]
    with pytest.raises(MetricError, match="at least 10 pictures, not 5"):
        run(images, cache)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["fit"]}, "no metric 'fit'; known are fid, kid, cmmd, fid_infinity, is"),
        ({"metrics": ["fid"]}, "fid needs a reference set"),
        ({"metrics": ["clip"]}, "clip needs a CLIP model"),
        ({"parameters": {"splits": 3}}, "no metric has a parameter 'splits'; known are kid_subsets"),
    ],
)
def test_wrong_demands(ours: Path, cache: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        run(items_of(ours), cache, **changes)


def test_unknown_extractor(ours: Path, cache: Path) -> None:
    with pytest.raises(ExtractorUnavailable, match="no extractor 'vgg'; known are shapes, inception-v3-compat"):
        run(items_of(ours), cache, extractor="vgg")


def test_parameters_are_used_and_recorded(ours: Path, cache: Path) -> None:
    found = run(items_of(ours), cache, parameters={"isc_splits": 1}).results[0]
    assert found.protocol.parameters == {"isc_splits": 1}
    assert found.note == "1 splits, of at most 35"


def test_a_reference_of_another_size_is_cropped_as_torch_fidelity_does(ours: Path, tmp_path: Path) -> None:
    from torch_fidelity import calculate_metrics

    from t2i_track.shapes.fidelity import register

    wide = draw(tmp_path / "wide", 20, 7, size=(150, 97))
    found = run(items_of(ours), tmp_path, metrics=["fid"], reference=open_reference(wide, tmp_path))
    for i, path in enumerate(sorted(wide.iterdir())):
        if i % 3 == 0:
            Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    mixed = run(items_of(ours), tmp_path, metrics=["fid"], reference=open_reference(wide, tmp_path))
    wanted = calculate_metrics(
        input1=str(ours),
        input2=str(wide),
        feature_extractor=register(),
        fid=True,
        samples_resize_and_crop=SIDE,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )["frechet_inception_distance"]
    assert mixed.results[0].value == pytest.approx(wanted, rel=1e-6)
    assert found.results[0].value != mixed.results[0].value


def test_resize_is_another_protocol(ours: Path, reference: Reference, result: EvaluationResult, cache: Path) -> None:
    smaller = run(items_of(ours), cache, metrics=["fid"], reference=reference, resize=32).results[0]
    assert smaller.protocol.resize == "32x32 bilinear, then 64x64 bilinear"
    assert smaller.protocol.fingerprint != result.results[0].protocol.fingerprint
    assert smaller.value != result.results[0].value


def test_statistics_in_an_npz(
    ours: Path, reference: Reference, result: EvaluationResult, cache: Path, tmp_path: Path
) -> None:
    store = FeatureStore(resolve("shapes", cache).folder(cache, (SIDE, SIDE)))
    mu, sigma = statistics(store.rows([item.sha256 for item in reference.items]).layer("features"))
    np.savez(tmp_path / "stats.npz", mu=mu, sigma=sigma)
    opened = open_reference(tmp_path / "stats.npz", cache)
    found = run(items_of(ours), cache, metrics=["fid", "kid"], reference=opened)
    assert [r.value for r in found.results] == pytest.approx([result.results[0].value], rel=1e-9)
    assert found.results[0].protocol.reference_n is None
    assert found.warnings == [
        "kid was not measured: needs the reference's pictures, not only their statistics; name a folder of pictures"
    ]
    allowed = default_metrics("shapes", opened, "shapes")
    assert {"fid", "is", "alignment", "clip"} <= set(allowed)
    assert not {"fid_infinity", "kid", "prc", "cmmd"} & set(allowed)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(3)}, "is not an .npz with mu and sigma"),
        ({"mu": np.zeros(3), "sigma": np.eye(2)}, "do not fit"),
        ({"mu": np.array([{}]), "sigma": np.eye(1)}, "is not an .npz with mu and sigma"),
    ],
    ids=["no sigma", "shapes", "pickled"],
)
def test_npz_that_is_none(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(MetricError, match=message):
        open_reference(tmp_path / "bad.npz", tmp_path)


@pytest.mark.parametrize("dimension", [20, 127, 129, 2048])
@pytest.mark.parametrize("metrics", [["fid"], ["is", "fid_infinity", "fid"]])
def test_statistics_of_another_extractor(
    dimension: int, metrics: list[str], ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found before a picture is read."""
    monkeypatch.setattr("t2i_track.metrics.evaluate.picture_features", lambda *_: pytest.fail("features were made"))
    np.savez(tmp_path / "stats.npz", mu=np.zeros(dimension), sigma=np.eye(dimension))
    reference = open_reference(tmp_path / "stats.npz", tmp_path / "cache")
    for entry in (evaluate, plan):
        with pytest.raises(
            MetricError, match=rf"have {dimension} dimensions and the images. 128: give the --extractor"
        ):
            entry(items_of(ours), metrics=metrics, reference=reference, cache_dir=tmp_path / "cache")


def test_a_reference_that_no_metric_reads_may_have_any_dimension(ours: Path, cache: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "stats.npz", mu=np.zeros(20), sigma=np.eye(20))
    found = run(items_of(ours), cache, metrics=["is"], reference=open_reference(tmp_path / "stats.npz", cache))
    assert "inception_score_mean" in {result.name for result in found.results}


def test_other_references(ours: Path, theirs: Path, reference: Reference, tmp_path: Path) -> None:
    lines = ["image_id,caption_id,image_path,caption"]
    lines += [f"{i},{i}{c},{path},a cat" for i, path in enumerate(sorted(theirs.iterdir())) for c in range(2)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    assert open_reference(tmp_path / "manifest.csv", tmp_path).sha256 == reference.sha256
    assert open_reference(items_of(theirs), tmp_path, label="run x").sha256 == reference.sha256
    (tmp_path / "empty").mkdir()
    with pytest.raises(MetricError, match="has no pictures"):
        open_reference(tmp_path / "empty", tmp_path)
    with pytest.raises(MetricError, match=r"no reference '.*nowhere'; name a folder"):
        open_reference(tmp_path / "nowhere", tmp_path)


def test_pruned_features_are_made_again(
    ours: Path, reference: Reference, result: EvaluationResult, tmp_path: Path
) -> None:
    few = replace(reference, items=reference.items[:16])
    first = run(items_of(ours)[:16], tmp_path, metrics=["fid"], reference=few)
    pruned = prune_cache(tmp_path, 0)
    assert pruned.kept == 0
    assert pruned.files == 2  # one shard, one reference's statistics
    assert not list(tmp_path.glob("features/*/*"))
    assert values(run(items_of(ours)[:16], tmp_path, metrics=["fid"], reference=few)) == values(first)


def test_the_embedded_reference_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2i_track.metrics.reference.SHAPES_NUM", 3)
    first = open_reference("shapes", tmp_path)
    drawn = first.items[0].path.stat().st_mtime_ns
    assert (first.label, first.n) == ("shapes", 3)
    assert open_reference("shapes", tmp_path) == first
    assert first.items[0].path.stat().st_mtime_ns == drawn


def test_results_say_their_prompts(ours: Path, result: EvaluationResult) -> None:
    digests = sorted(hashlib.sha256(item.prompt.encode()).hexdigest() for item in items_of(ours))
    together = hashlib.sha256("".join(digests).encode()).hexdigest()
    assert {(r.grouping, r.prompts_sha256) for r in result.results} == {("prompts-sha256-32", together)}
    parts = {r.name: np.frombuffer(r.parts, dtype="<f8") for r in result.results if r.parts is not None}
    assert list(parts) == ["precision"]
    assert parts["precision"].shape == (50,)
    assert parts["precision"].mean() == pytest.approx(values(result)["precision"])


def test_infinity_has_its_fit_error_and_no_interval(ours: Path, reference: Reference, cache: Path) -> None:
    narrow = replace(reference, items=reference.items[:3], sha256="3" * 64)  # two dimensions, so 16 images are enough
    found = run(items_of(ours), cache, metrics=["fid", "fid_infinity"], reference=narrow).results
    assert [r.name for r in found] == ["fid", "fid_infinity"]
    assert (found[1].ci_low, found[1].replicates) == (None, None)
    assert (found[1].note or "").startswith("no interval; fit error")


def test_a_rule_does_not_depend_on_what_is_kept(ours: Path, reference: Reference, tmp_path: Path) -> None:
    few = items_of(ours)[:6]
    first = run(few, tmp_path, metrics=["is", "fid"], reference=reference)
    assert [one.name for one in first.results] == ["fid"]
    known = {(one.name, one.protocol.fingerprint) for one in first.results}
    second = run(few, tmp_path, metrics=["is", "fid"], reference=reference, known=known)
    assert (second.results, second.warnings) == ([], first.warnings)
    assert "is was not measured: inception score over 10 splits needs at least 10 pictures, not 6" in first.warnings
    with pytest.raises(MetricError, match="is was not measured: inception score over 10 splits"):
        run(few, tmp_path, metrics=["is"])


def test_what_a_killed_writer_left_in_the_cache_goes(ours: Path, tmp_path: Path) -> None:
    run(items_of(ours)[:16], tmp_path, metrics=["is"])
    (folder,) = (tmp_path / "features").iterdir()
    places = [
        folder / ".0123.npy.0a1b2c3d.tmp",
        folder / ".4567.keys.0a1b2c3d.tmp",
        tmp_path / "hashes" / ".x.json.0.tmp",
    ]
    for place in places:
        place.write_bytes(b"half")
    run(items_of(ours)[16:32], tmp_path, metrics=["is"])
    assert [place.exists() for place in places] == [False, False, True]
    kept = prune_cache(tmp_path, 2**40)
    assert not any(place.exists() for place in places)
    assert (kept.files, kept.freed) == (0, 0)
    assert kept.kept > 0
