"""What is asked of the hub: the chosen weights and what is beside them; and what is said where it cannot be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from t2i_track import assets
from t2i_track.errors import ModelError, PickledWeights
from t2i_track.images.download import is_hub_id, of_a_pipeline
from t2i_track.images.loading import load
from t2i_track.images.model_folder import Choice
from t2i_track.settings import Settings

INDEX = {
    "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.20.0",
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "feature_extractor": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}  # fmt: skip
D = "diffusion_pytorch_model"
SMALL = [
    "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json", "tokenizer/vocab.json", "unet/config.json", "vae/config.json",
    "safety_checker/config.json",
]  # fmt: skip
LISTING = [
    *SMALL, ".gitattributes", "README.md", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "images/example.png",
    *(f"{part}/{stem}{variant}.{suffix}" for variant in ("", ".fp16") for part, stem, suffix in (
        ("text_encoder", "model", "safetensors"), ("text_encoder", "pytorch_model", "bin"),
        ("safety_checker", "model", "safetensors"), ("safety_checker", "pytorch_model", "bin"),
        ("unet", D, "safetensors"), ("unet", D, "bin"), ("vae", D, "safetensors"), ("vae", D, "bin"),
    )),
    f"unet/{D}.non_ema.safetensors", f"unet/{D}.non_ema.bin", "unet/model.onnx", "text_encoder/flax_model.msgpack",
    "unet/README.md", "unet/helpers.py", "vae/nested/config.json",
]  # fmt: skip


def chosen(listing: list[str], choice: Choice | None, index: dict[str, Any] = INDEX) -> set[str]:
    found = of_a_pipeline(index, listing, "owner/name", choice)
    assert len(found) == len(set(found))
    return set(found) - set(SMALL)


@pytest.mark.parametrize(
    ("choice", "infix", "unet"),
    [
        (Choice("fp32"), "", ""), (Choice("fp16"), ".fp16", ".fp16"), (Choice("bf16"), "", ""),
        (Choice("fp32", "non_ema"), "", ".non_ema"), (Choice("fp16", "plain"), "", ""),
        (Choice("fp16", allow_pickle=True), ".fp16", ".fp16"),
    ],
)  # fmt: skip
def test_only_the_variant_of_the_dtype_is_downloaded(choice: Choice, infix: str, unet: str) -> None:
    expected = {f"{part}/model{infix}.safetensors" for part in ("text_encoder", "safety_checker")}
    assert chosen(LISTING, choice) == expected | {f"unet/{D}{unet}.safetensors", f"vae/{D}{infix}.safetensors"}


def test_without_weights_only_what_is_beside_them_is() -> None:
    assert chosen(LISTING, None) == set()
    assert set(SMALL) == set(of_a_pipeline(INDEX, LISTING, "owner/name", None))


def test_shards_are_downloaded_with_their_index() -> None:
    shards = {f"unet/{D}.fp16-0000{part}-of-00002.safetensors" for part in (1, 2)}
    shards |= {f"unet/{D}.safetensors.index.fp16.json"}
    listing = [name for name in LISTING if not name.startswith("unet/")] + sorted(shards) + ["unet/config.json"]
    assert {name for name in chosen(listing, Choice("fp32")) if name.startswith("unet/")} == shards


def test_what_cannot_be_used_is_refused_before_it_is_downloaded() -> None:
    pickled = [name for name in LISTING if not (name.startswith("unet/") and name.endswith(".safetensors"))]
    with pytest.raises(PickledWeights, match=rf"^'owner/name': unet/ has only pickled weights \({D}\.bin\)"):
        chosen(pickled, Choice("fp32"))
    assert f"unet/{D}.bin" in chosen(pickled, Choice("fp32", allow_pickle=True))
    with pytest.raises(ModelError, match=r"^'owner/name' brings code of its own for unet \(diffusers\.py\)"):
        chosen([*LISTING, "unet/diffusers.py"], Choice("fp32"))


class Hub:
    """A hub with one repository, and a cache on this machine."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.error: Exception | None = None
        self.asked: list[str] = []

    def model_info(self, repository: str, revision: str | None = None) -> Any:
        if self.error is not None:
            raise self.error
        names = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
        return SimpleNamespace(sha="c0ffee", siblings=[SimpleNamespace(rfilename=name) for name in names])

    def hf_hub_download(self, repository: str, name: str, revision: str) -> str:
        return str(self._get(name))

    def snapshot_download(self, repository: str, revision: str, allow_patterns: list[str]) -> str:
        self.asked = sorted(allow_patterns)
        for name in allow_patterns:
            self._get(name)
        return str(self.cache / "c0ffee")

    def try_to_load_from_cache(self, repository: str, name: str, revision: str | None = None) -> str | None:
        place = self.cache / "c0ffee" / name
        return str(place) if place.is_file() else None

    def _get(self, name: str) -> Path:
        place = self.cache / "c0ffee" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not (self.folder / name).is_file():
            raise errors.EntryNotFoundError(f"404: https://hub/owner/name/resolve/c0ffee/{name}")
        shutil.copy(self.folder / name, place)
        return place


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    shutil.copytree(assets.shapes_sd(), tmp_path / "hub")
    (tmp_path / "hub" / "big.ckpt").write_bytes(b"not wanted")
    found = Hub(tmp_path / "hub", tmp_path / "cache")
    for name in ("model_info", "hf_hub_download", "snapshot_download", "try_to_load_from_cache"):
        monkeypatch.setattr(huggingface_hub, name, getattr(found, name))
    return found


def test_a_model_of_the_hub_is_loaded_with_its_commit_and_then_from_the_cache(hub: Hub) -> None:
    loaded = load(Settings(model="owner/name", device="cpu"))
    assert loaded.revision == "c0ffee"
    assert "big.ckpt" not in hub.asked
    hub.error = ConnectionError("no route to host")
    again = load(Settings(model="owner/name", device="cpu"))
    assert (again.revision, again.weights_sha256) == (loaded.revision, loaded.weights_sha256)


def test_a_vae_of_the_hub_is_loaded(hub: Hub, tmp_path: Path) -> None:
    expected = load(Settings(vae="owner/name", device="cpu")).weights_sha256
    assert hub.asked == ["model_index.json", "vae/config.json", f"vae/{D}.safetensors"]
    hub.folder = assets.shapes_sd() / "vae"
    hub.cache = tmp_path / "other"
    assert load(Settings(vae="owner/vae", device="cpu")).weights_sha256 == expected
    assert hub.asked == ["config.json", f"{D}.safetensors"]


def test_a_model_of_the_hub_that_runs_code_is_not_downloaded(hub: Hub) -> None:
    (hub.folder / "model_index.json").write_text(json.dumps({"_class_name": ["pipeline", "Mine"]}))
    with pytest.raises(ModelError, match=r"brings code of its own for its pipeline \(Mine of pipeline\)"):
        load(Settings(model="owner/name", device="cpu"))
    assert hub.asked == []


def response(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=SimpleNamespace(url="", method="GET"), text="")


def hub_error(kind: type[Exception], status: int) -> Exception:
    return kind("some\nlines", response=response(status))  # type: ignore[call-arg]


LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            hub_error(errors.GatedRepoError, 403),
            f"is gated: accept its licence on https?://.*/owner/name, then {LOG_IN}$",
        ),
        (hub_error(errors.RepositoryNotFoundError, 404), f"no model 'owner/name' that you may see: .*; .* {LOG_IN}$"),
        (hub_error(errors.RevisionNotFoundError, 404), r"has no revision 'v9': .*/owner/name/commits/main lists them"),
        (hub_error(errors.HfHubHTTPError, 503), r"the hub did not give model 'owner/name' \(some lines\): try again"),
        (errors.OfflineModeIsEnabled("x"), r"not in the hub's cache here, and HF_HUB_OFFLINE is set: unset it"),
        (ConnectionError("no route"), r"cannot be had from the hub or its cache \(ConnectionError: no route\)"),
        (TimeoutError("in 10 s"), r"cannot be had .* \(TimeoutError: in 10 s\); check the id and the network"),
    ],
)
def test_what_the_hub_does_not_give_is_said_in_one_line(hub: Hub, error: Exception, message: str) -> None:
    hub.error = error
    with pytest.raises(ModelError, match=message) as told:
        load(Settings(model="owner/name", revision="v9", device="cpu"))
    assert "\n" not in str(told.value)
    assert told.value.__cause__ is None


def test_a_repository_that_is_no_pipeline_is_said(hub: Hub) -> None:
    (hub.folder / "model_index.json").unlink()
    with pytest.raises(ModelError, match=r"^model 'owner/name' has no model_index\.json: .*--model-config"):
        load(Settings(model="owner/name", device="cpu"))


@pytest.mark.parametrize(
    ("name", "is_id"),
    [("owner/name", True), ("here/sd", False), ("./owner/name", False), ("name", False), ("a/b/c", False)],
)
def test_what_is_here_is_no_id(name: str, is_id: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "sd").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_hub_id(name) is is_id
