"""The register: what it holds, what it derives, and that stored protocols still mean what they meant."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import t2i_track
from t2i_track import assets
from t2i_track.errors import MetricError
from t2i_track.metrics.evaluate import plan
from t2i_track.metrics.extractors import kinds, resolve, resolve_clip
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.measurable import default_metrics
from t2i_track.metrics.metric import Metric
from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.reference import Reference
from t2i_track.metrics.registry import METRICS, SETTABLE, of_role, rankable, score_info, word_of
from t2i_track.ranking import Score as RankedScore
from t2i_track.ranking.differences import difference

ITEMS = tuple(ImageItem(Path("x"), f"{i:064x}", "a red circle", i) for i in range(24))
REFERENCE = Reference("shapes", "ab" * 32, 2048, ITEMS)

# Of the protocols that databases hold: made by the code before there was a register, with all versions "1.0".
STORED = {
    "shapes": {
        "fid": "a7194acbdbb67be27b1c95742dfb1e66b1229d1709c6882cf312d659d1e5d9f8",
        "is": "cc6f138943b9a0402e6e7376855b93ac07b9b10ab3583afe2729667e3327f3ed",
        "kid": "ed718204654ee6ef94225fa88621b544b5e9fa72a012f385f2a89dcf8695ba2a",
        "prc": "9f07d508c723efea4d1875ddb8341fb1b4dcf656b5b7c150f7958562366b3c5b",
        "clip": "88da14ee6fb2d188a784e8c2d20d9785c68a5cc8e3d8b3574ba1bc1505f94a32",
        "cmmd": "07feadbae65a94cee2328f1c63d64ec595714a7bd6b2cc3be9eed4b89a612d4d",
        "fid_infinity": "d2a051fb1ab6a499e8f6abaf21dc5f61a617ae9c1aafd841a2fd55b44c855cca",
        "alignment": "de4e76dc21e9bec3ee3034c14f7646c173536c901771eca2dbc2810b43502e14",
    },
    "inception-v3-compat": {
        "fid": "5d6fac4d44ac395c735352818e5aebf6496a479f5bb4756bd4154ba6b1656fa0",
        "is": "997cde3b492c5e684c8f90d27a3602e108e565e1d48efc8b967d7eb9c0a48587",
        "kid": "93b3885213a0e12baf6f9e5a84f84789d72c7d5fa21e6afef6434c31e59ec3fd",
        "prc": "658772e382052630ca5283eeb1a2a437944db285e80009b371ed644ade6d01a0",
        "fid_infinity": "1542fdba0be69770fa4b305e7d6a5d37d3bd215d1ed031dc224adbba648f0c7c",
    },
    "clip:": {
        "fid": "692388b54a0d9e5a1a50026cc12d0a52c1ef50de5cb395841e5fbee6bebfabfb",
        "is": "b8e48572f80919c0b147a2eb00bb624b4b660635a432e186d35818d6da29525f",
        "kid": "7a9fa8c104925ede4a02fdc8d237d0b1638969d52a34a2a3f50082129e9e5305",
        "prc": "3207c819d77efb3513761c8d2ada8f8f6e77aa1635bc8b207578817f6b245e8b",
    },
}
ADDED = {"config_sha256", "tokenizer_sha256"}
"""In the versions of today's protocols and not of those: one fingerprint stood for networks of several
configurations, whose scores differ."""
FOLDERS = {  # of the extractors that have a configuration, new since it is part of what the features depend on
    "shapes": "6de934671fa3d4a2f4b62a818e3e121f",
    "inception-v3-compat": "c20002ae762eecfce8b9a45cbfa0dc1c",
    "clip": "1d306b761fe0e9af12aab9fabeb549b9",
    "clip-text": "e3941f5f3e497969ab1300a7d49074b9",
}


@pytest.fixture(autouse=True)
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*names: str) -> dict[str, str]:
        return dict.fromkeys(names, "1.0")

    monkeypatch.setattr("t2i_track.metrics.extractors.versions", found)
    monkeypatch.setattr("t2i_track.metrics.evaluate.versions", found)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "weights.pth").write_bytes(b"x")
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("extractor", STORED)
def test_stored_protocols_mean_what_they_meant(extractor: str, weights: Path, tmp_path: Path) -> None:
    planned = plan(
        ITEMS,
        metrics=list(STORED[extractor]),
        extractor=extractor + str(assets.shapes_clip()) if extractor == "clip:" else extractor,
        weights=weights if extractor == "inception-v3-compat" else None,
        reference=REFERENCE,
        clip="shapes",
        cache_dir=tmp_path,
        size=(64, 64),
    )
    older = {
        word: replace(protocol, versions={key: of for key, of in protocol.versions.items() if key not in ADDED})
        for word, protocol in planned.items()
    }
    assert {word: protocol.fingerprint for word, protocol in older.items()} == STORED[extractor]
    added = {word: ADDED & protocol.versions.keys() for word, protocol in planned.items()}
    configured = set() if extractor == "inception-v3-compat" else {"config_sha256"}
    assert added == {word: ADDED if word == "clip" else configured for word in planned}


def test_a_newer_formula_has_another_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    newer = replace(METRICS["is"], version=2)
    monkeypatch.setattr("t2i_track.metrics.measurable.METRICS", {"is": newer})
    planned = plan(ITEMS, metrics=["is"], cache_dir=tmp_path, size=(64, 64))["is"]
    first = METRICS["is"].settled({}, ITEMS, None)
    assert planned.parameters == {**first, "version": 2}
    assert "version" not in first


def test_kept_features_are_found_again(weights: Path, tmp_path: Path) -> None:
    pictures, texts = resolve_clip("shapes", tmp_path)
    found = [resolve("shapes", tmp_path), resolve("inception-v3-compat", tmp_path, weights), pictures]
    folders = {extractor.name: extractor.folder(tmp_path, (64, 64)).name for extractor in found}
    assert {**folders, texts.name: texts.folder(tmp_path, None).name} == FOLDERS


def test_names_belong_to_one_metric() -> None:
    names = [score.name for metric in METRICS.values() for score in metric.scores]
    assert len(names) == len(set(names))
    assert len(METRICS) == len({metric.order for metric in METRICS.values()})


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_metric_says_what_it_is(metric: Metric) -> None:
    assert metric.formula
    assert metric.source
    assert metric.layers
    assert set(metric.settable) <= set(metric.parameters)
    for score in metric.scores:
        assert score.interval
        assert score.words.strip(" .") == score.words
        assert word_of(score.name) == metric.word
        assert score.mean or not score.share


def test_the_preferred_ones_come_first() -> None:
    assert rankable()[:2] == ("fid", "kid_mean")
    assert rankable()[-1] == "seconds_per_image"
    assert of_role("alignment") == ("alignment", "clip_score")
    assert set(rankable(parts=True)) - set(rankable()) == {
        f"alignment_{part}" for part in ("shape", "colour", "size", "count", "background", "relation")
    }
    assert SETTABLE == ("kid_subsets", "kid_subset_size", "isc_splits", "prc_neighborhood")
    assert score_info("kid_std") is not None
    assert "kid_std" not in rankable(parts=True)
    assert (score_info("another"), word_of("another")) == (None, "another")


def test_an_unknown_score_of_an_older_database_is_no_share() -> None:
    def equal(name: str) -> RankedScore:
        return RankedScore(name, 1.0, 0.9, 1.1, n=24, replicates=(1.0,) * GROUPS)

    names = ("alignment_shape", "precision", "fid", "another")
    widths = {name: difference(equal(name), equal(name), 0.95).high for name in names}
    share = pytest.approx(1 - 0.025 ** (1 / 24))
    assert widths == {"alignment_shape": share, "precision": share, "fid": 0.0, "another": 0.0}


def test_what_an_extractor_gives_is_known_by_its_name(tmp_path: Path) -> None:
    assert kinds("shapes") == set(resolve("shapes", tmp_path).layers) == {"features", "logits", "heads"}
    assert kinds("inception-v3-compat") == kinds("dinov2:x") == {"features", "logits"}
    assert "alignment" in default_metrics("shapes", None, None)
    assert "alignment" not in default_metrics("inception-v3-compat", None, None)


def test_what_an_extractor_does_not_give(weights: Path, tmp_path: Path) -> None:
    message = (
        "alignment reads heads, which extractor 'inception-v3-compat' does not give; leave it out, or use 'shapes'"
    )
    with pytest.raises(MetricError, match=message):
        plan(
            ITEMS,
            metrics=["alignment"],
            extractor="inception-v3-compat",
            weights=weights,
            cache_dir=tmp_path,
            size=(64, 64),
        )


def test_a_metric_that_refuses_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picky = replace(METRICS["is"], word="picky", refuses=lambda images: f"wants more than {len(images)} images")
    monkeypatch.setattr("t2i_track.metrics.measurable.METRICS", {"picky": picky})
    assert default_metrics("shapes", None, None, ITEMS) == []
    with pytest.raises(MetricError, match="picky wants more than 24 images; or leave picky out"):
        plan(ITEMS, metrics=["picky"], cache_dir=tmp_path, size=(64, 64))


def test_parts_need_not_be_known() -> None:
    alignment, kid = METRICS["alignment"], METRICS["kid"]
    assert alignment.is_known("f", {("alignment", "f")})
    assert not kid.is_known("f", {("kid_mean", "f")})


def test_reading_the_register_imports_numpy_only() -> None:
    code = "import sys, t2i_track.metrics.registry\n"
    code += "print(sorted({'numpy', 'scipy', 'torch', 'click', 'mlflow', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['numpy']\n"


def test_no_other_place_names_a_score() -> None:
    """But for what `--by` is by default, and for the role that has alignment's name."""
    package = Path(t2i_track.__file__).parent
    names = {score.name for metric in METRICS.values() for score in metric.scores} - {"fid", "alignment"}
    found = [
        f"{path.relative_to(package)}: {node.value}"
        for path in sorted(package.rglob("*.py"))
        if path.parent.name != "scores"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []


def test_a_file_in_the_folder_is_a_metric(tmp_path: Path) -> None:
    (tmp_path / "novel.py").write_text(
        "from dataclasses import replace\n"
        "from t2i_track.metrics.scores.kid import METRIC as KID\n"
        "from t2i_track.metrics.metric import ScoreInfo\n"
        "SCORE = ScoreInfo('new', 'higher', 'quality', 'words', 'none')\n"
        "METRIC = replace(KID, word='novel', order=1, scores=(SCORE,))\n"
    )
    code = f"""
from t2i_track.metrics import scores
scores.__path__.append({str(tmp_path)!r})
from t2i_track.metrics.registry import METRICS, rankable
from t2i_track.ranking import direction
print(list(METRICS)[0], rankable()[0], direction("new"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "novel new higher\n"
