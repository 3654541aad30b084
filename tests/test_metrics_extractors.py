"""Extractors by name: Inception from a file, CLIP against torchmetrics, and what is said when one is missing."""

from __future__ import annotations

import hashlib
import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2i_track import shapes
from t2i_track.errors import ExtractorUnavailable, MetricError
from t2i_track.metrics.evaluate import evaluate, plan
from t2i_track.metrics.extractors import INCEPTION_FILE, resolve, resolve_clip
from t2i_track.metrics.features import text_features
from t2i_track.metrics.inputs import ImageItem, read
from t2i_track.metrics.measurable import default_metrics
from t2i_track.metrics.reference import open_reference


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> list[ImageItem]:
    """Twelve pictures of the embedded data with their captions."""
    folder = tmp_path_factory.mktemp("run")
    items = []
    for i, row in enumerate(shapes.rows("val", 12)):
        path = folder / f"{i:06d}.png"
        Image.fromarray(shapes.draw(row.scene, row.seed)).save(path)
        items.append(ImageItem(path, hashlib.sha256(path.read_bytes()).hexdigest(), row.caption, i, 0, i))
    return items


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real architecture with random weights: its scores mean nothing, but two programs must agree on them."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: object, **__: object) -> None:
            pass

    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    network = Untrained("inception-v3-compat", ["2048"], str(path))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.slow
def test_inception_from_a_file_equals_torch_fidelity(
    run: list[ImageItem],
    inception: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    import torch
    from torch_fidelity import calculate_metrics

    # The two take passes of other sizes, which one thread rounds otherwise than several do.
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for item in run:
        Image.open(item.path).convert("L").convert("RGB").save(theirs / item.path.name)
    monkeypatch.setenv("T2I_EXTRACTOR_WEIGHTS", str(inception))
    found = evaluate(
        run,
        metrics=["fid", "is", "kid"],
        extractor="inception-v3-compat",
        reference=open_reference(theirs, cache),
        cache_dir=cache,
    )
    wanted = calculate_metrics(
        input1=str(run[0].path.parent),
        input2=str(theirs),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(inception),
        **dict.fromkeys(("isc", "kid"), True),
        kid_subset_size=12,
        batch_size=12,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    values = {r.name: r.value for r in found.results}
    assert values["inception_score_mean"] == pytest.approx(wanted["inception_score_mean"], rel=1e-6)
    assert values["inception_score_std"] == pytest.approx(wanted["inception_score_std"], rel=1e-6, abs=1e-9)
    assert values["kid_mean"] == pytest.approx(wanted["kernel_inception_distance_mean"], rel=1e-6)
    # torch-fidelity's FID of 24 pictures in 2048 dimensions takes a minute; test_metrics_fid has rank-deficient cases.
    assert values["fid"] > 0
    fid = found.results[0]
    assert fid.protocol.weights_sha256 == hashlib.sha256(inception.read_bytes()).hexdigest()
    assert fid.protocol.resize == "64x64 bilinear, then 299x299 bilinear (TensorFlow 1)"


def test_without_network_and_weights(run: list[ImageItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ExtractorUnavailable) as caught:
        evaluate(run, metrics=["is"], extractor="inception-v3-compat", cache_dir=tmp_path / "cache")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        INCEPTION_FILE,
        "sha256 6726825d",
        str(tmp_path / "torch" / "hub" / "checkpoints" / INCEPTION_FILE),
        "--extractor-weights",
        "T2I_EXTRACTOR_WEIGHTS",
        "Network is unreachable",
    ):
        assert part in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_download_that_is_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.html").write_text("log in first")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("t2i_track.metrics.extractors.INCEPTION_URL", (tmp_path / "page.html").as_uri())
    with pytest.raises(ExtractorUnavailable, match="the download's sha256 begins addf0423"):
        resolve("inception-v3-compat", tmp_path)
    assert not [path for path in (tmp_path / "torch").rglob("*") if path.is_file()]


@pytest.mark.parametrize("content", [b"", b"hello", b"pickle"])
def test_weights_that_are_more_than_tensors(content: bytes, run: list[ImageItem], tmp_path: Path) -> None:
    import torch

    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    if content == b"pickle":
        torch.save({"a": Path("x")}, path)
    with pytest.raises(ExtractorUnavailable, match="are not a file of tensors"):
        evaluate(run, metrics=["is"], extractor="inception-v3-compat", weights=path, cache_dir=tmp_path)


def test_weights_of_another_network(run: list[ImageItem], tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(ExtractorUnavailable, match="extractor 'inception-v3-compat' cannot be loaded"):
        evaluate(
            run, metrics=["is"], extractor="inception-v3-compat", weights=tmp_path / "weights.pth", cache_dir=tmp_path
        )


@pytest.mark.parametrize("spec", ["clip:nobody/nothing", "dinov2:nobody/nothing"])
def test_models_that_are_not_here(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ExtractorUnavailable, match="is no folder, not in the Hugging Face cache") as caught:
        resolve(spec, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_safetensors(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ExtractorUnavailable, match=r"lacks config\.json or"):
        resolve_clip(str(tmp_path), tmp_path)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """The embedded CLIP model in a folder of one's own."""
    from t2i_track import assets

    return Path(shutil.copytree(assets.shapes_clip(), tmp_path / "clip"))


def test_another_activation_is_another_model(run: list[ImageItem], clip: Path, tmp_path: Path) -> None:
    first = evaluate(run, metrics=["clip"], clip=str(clip), cache_dir=tmp_path).results[0]
    config = json.loads((clip / "config.json").read_text("utf-8"))
    for half in ("text_config", "vision_config"):
        assert config[half]["hidden_act"] != "relu"
        config[half]["hidden_act"] = "relu"
    (clip / "config.json").write_text(json.dumps(config), "utf-8")
    second = evaluate(run, metrics=["clip"], clip=str(clip), cache_dir=tmp_path).results[0]
    assert first.protocol.weights_sha256 == second.protocol.weights_sha256
    assert first.protocol.fingerprint != second.protocol.fingerprint
    assert abs(first.value - second.value) > 0.1  # and so not from the first one's features


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "vocab.json"])
def test_another_tokenizer_is_another_measurement(file: str, clip: Path, tmp_path: Path) -> None:
    def measured() -> list[str]:
        images, texts = resolve_clip(str(clip), tmp_path)
        item = ImageItem(Path("x"), "0" * 64, "a red circle", 0)
        protocol = plan([item], metrics=["clip"], clip=str(clip), cache_dir=tmp_path, size=(64, 64))["clip"]
        folders = (images.folder(tmp_path, (64, 64)), texts.folder(tmp_path, None))
        return [protocol.fingerprint, *(folder.name for folder in folders)]

    before = measured()
    (clip / file).write_text((clip / file).read_text("utf-8") + "\n", "utf-8")
    assert [new != old for new, old in zip(measured(), before, strict=True)] == [True, False, True]


@pytest.mark.parametrize(("extractor", "asset"), [("shapes", "shapes_classifier"), ("dinov2", "shapes_clip")])
def test_a_network_s_configuration_is_part_of_it(extractor: str, asset: str, tmp_path: Path) -> None:
    from t2i_track import assets

    folder = Path(shutil.copytree(getattr(assets, asset)(), tmp_path / "own"))

    def measured() -> tuple[str, str]:
        spec, weights = (extractor, folder) if extractor == "shapes" else (f"{extractor}:{folder}", None)
        found = resolve(spec, tmp_path, weights)
        return found.versions["config_sha256"], found.folder(tmp_path, (64, 64)).name

    before = measured()
    (folder / "config.json").write_text((folder / "config.json").read_text("utf-8") + "\n", "utf-8")
    assert all(new != old for new, old in zip(measured(), before, strict=True))


class Wrapped:
    """CLIPModel as torchmetrics knows it: its features are tensors."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.config

    def to(self, device: object) -> Wrapped:
        return self

    def get_image_features(self, pixels: Any) -> Any:
        return self.model.get_image_features(pixels).pooler_output

    def get_text_features(self, ids: Any, mask: Any) -> Any:
        return self.model.get_text_features(ids, mask).pooler_output


def test_clip_score_equals_torchmetrics(run: list[ImageItem], cache: Path) -> None:
    import torch
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update
    from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    from t2i_track import assets

    folder = assets.shapes_clip()
    found = evaluate(run, metrics=["clip"], clip="shapes", cache_dir=cache).results[0]
    model = Wrapped(CLIPModel.from_pretrained(folder, dtype=torch.float32))
    processor = CLIPProcessor(CLIPImageProcessor.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder))
    pictures = [torch.from_numpy(np.ascontiguousarray(read(i.path, (64, 64)).pixels.transpose(2, 0, 1))) for i in run]
    with torch.no_grad():
        scores, _ = _clip_score_update(pictures, [i.prompt for i in run], model, processor)
    expected = scores.clamp(min=0).tolist()
    assert found.per_image is not None
    assert [found.per_image[i] for i in range(12)] == pytest.approx(expected, abs=1e-4)
    assert found.value == pytest.approx(np.mean(expected), abs=1e-4)
    assert found.ci_low is not None
    assert found.ci_low < found.value < (found.ci_high or 0)


def test_long_captions_are_cut_and_counted(run: list[ImageItem], cache: Path) -> None:
    from dataclasses import replace

    long = [replace(run[0], prompt="a red circle " * 60), *run[1:]]
    found = evaluate(long, metrics=["clip"], clip="shapes", cache_dir=cache)
    assert found.results[0].note == "1 captions cut at the encoder's window"
    assert found.warnings == ["clip_score: 1 captions cut at the encoder's window"]


def test_a_caption_s_embedding_does_not_depend_on_the_others(run: list[ImageItem], cache: Path, tmp_path: Path) -> None:
    _, texts = resolve_clip("shapes", cache)
    prompts = [item.prompt for item in run]
    together = text_features(texts, prompts, cache).take("embedding")
    alone = text_features(texts, prompts[5:6], tmp_path).take("embedding")
    assert np.array_equal(together[5:6], alone)


def test_the_embedded_data_has_every_score(run: list[ImageItem], cache: Path, tmp_path: Path) -> None:
    other = [item.path for item in run]
    (tmp_path / "reference").mkdir()
    for i, path in enumerate(other):
        Image.open(path).rotate(180).save(tmp_path / "reference" / f"{i}.png")
    reference = open_reference(tmp_path / "reference", cache)
    metrics = default_metrics("shapes", reference, "shapes")
    assert {"fid", "kid", "cmmd", "is", "prc", "alignment", "clip"} <= set(metrics)
    found = {
        r.name: r for r in evaluate(run, metrics=metrics, reference=reference, clip="shapes", cache_dir=cache).results
    }
    assert found["cmmd"].value > 0
    assert found["alignment"].value > 0.9  # real pictures under their own captions
    scenes = [shapes.parse(item.prompt) for item in run]
    relations = sum(scene is not None and scene.axis != "none" for scene in scenes)
    assert found["alignment_relation"].n == relations < 12
    assert found["alignment_relation"].note == f"over the {relations} images that it applies to"
    assert len(found["alignment_relation"].per_image or {}) == relations


def test_alignment_is_for_the_embedded_prompts(run: list[ImageItem], cache: Path) -> None:
    from dataclasses import replace

    cats = [replace(item, prompt="a photo of a cat") for item in run]
    with pytest.raises(MetricError, match="12 of 12 prompts are not captions of the embedded data"):
        evaluate(cats, metrics=["alignment"], cache_dir=cache)


def test_real_photographs_as_reference(run: list[ImageItem], shared_data: Path, cache: Path) -> None:
    reference = open_reference(shared_data / "tiny_coco" / "val2017", cache)
    found = evaluate(run, metrics=["fid", "kid", "prc", "cmmd"], reference=reference, clip="shapes", cache_dir=cache)
    assert reference.n == 50
    assert [r.name for r in found.results] == ["fid", "kid_mean", "kid_std", "precision", "recall", "cmmd"]
    assert all(np.isfinite(r.value) for r in found.results)


def test_texts_are_prepared_alike_in_many_threads() -> None:
    """The fast tokenizers keep padding and truncation as state: two threads must not change it under each other."""
    from concurrent.futures import ThreadPoolExecutor

    from t2i_track import assets
    from t2i_track.metrics.networks import ClipTexts

    network = ClipTexts(assets.shapes_clip(), "cpu")
    texts = ["one big red circle on a white background " * count for count in range(1, 13)] * 40
    expected = {text: network.prepare(text) for text in set(texts)}
    with ThreadPoolExecutor(8) as pool:
        for text, (ids, info) in zip(texts, pool.map(network.prepare, texts), strict=True):
            assert ids.shape == (2, 77)
            np.testing.assert_array_equal(ids, expected[text][0])
            assert info == expected[text][1]


def tiny_dinov2(folder: Path) -> str:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    return f"dinov2:{folder}"


@pytest.mark.parametrize("kind", ["shapes", "clip", "dinov2", "registered", "inception"])
def test_the_dimension_is_that_of_the_features(kind: str, clip: Path, tmp_path: Path, request: Any) -> None:
    import torch

    from t2i_track.shapes.fidelity import register

    specs = {"clip": lambda: f"clip:{clip}", "dinov2": lambda: tiny_dinov2(tmp_path / "dino"), "registered": register}
    specs |= {"shapes": lambda: "shapes", "inception": lambda: "inception-v3-compat"}
    weights = request.getfixturevalue("inception") if kind == "inception" else None
    found = resolve(specs[kind](), tmp_path, weights)
    network, picture = found.load("cpu"), np.zeros((64, 64, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "x.png")
    prepared, _ = network.prepare(read(tmp_path / "x.png", (64, 64)))
    with torch.inference_mode():
        assert found.dimension() == network(prepared[None])[found.layers["features"]].shape[1]
    (clip / "config.json").write_text("[]")
    assert kind != "clip" or found.dimension() is None


@pytest.mark.parametrize("text", ["a red circle " * 2000, "x" * 20_000, " " * 20_000 + "a red circle", "a red circle"])
def test_of_a_very_long_caption_the_beginning_is_read(text: str, tmp_path: Path) -> None:
    network = resolve_clip("shapes", tmp_path)[1].load("cpu")
    (ids, mask), (tokens, truncated, _) = network.prepare(text)
    whole = network.tokenizer(text, padding="max_length", truncation=True, max_length=77, verbose=False)
    assert [ids.tolist(), mask.tolist()] == [whole["input_ids"], whole["attention_mask"]]
    assert truncated == (tokens > 77) == (text.strip() != "a red circle")
