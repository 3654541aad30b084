"""A picture as a script of diffusers alone: it makes the recorded pixels, or says that it does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny as small
from safetensors.torch import load_file, save_file
from sqlalchemy import select
from tiny import single_file

from t2i_track import api
from t2i_track.db.models import Image, Run
from t2i_track.errors import ModelError, NotFound, SettingsError
from t2i_track.images import png
from t2i_track.images.decoding import Note
from t2i_track.runs.script import script_of
from t2i_track.workspace import Workspace

RUN = sorted(name for name in small.FAMILIES if name not in ("cogview4", "sd1-safety", "sdxl-plain-zeros"))
PROMPTS = ["a red circle", 'two "large" blue\\ squares on a green background, seen from above']
SAME, OTHER = "the pixels are those of the record", "the pixels are NOT those of the record"
WITHIN_ONE = ("qwen-image", "lumina2")
"""Their prompts are padded to the longest beside them, and the run had other ones there."""
HOW: dict[str, dict[str, Any]] = {
    "flux-dev": {"true_cfg_scale": 3.0, "negative_prompt": "grey"},
    "sd1": {"negative_prompt": "grey", "clip_skip": 1, "scheduler": "euler-a", "vae_tiling": "on"},
    "sdxl": {"negative_prompt": "grey"},
    "sd3": {"quantize": "int8"},
    "z-image": {"negative_prompt": "grey"},
    "flux2-klein": {"negative_prompt": "grey", "cache_interval": 2, "steps": 6},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> tuple[Workspace, str]:
    folder = tmp_path_factory.mktemp("script")
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    return Workspace(home=folder / "home"), f"sqlite:///{folder / 'mlflow.db'}"


def last_image(store: tuple[Workspace, str], **chosen: Any) -> tuple[int, Path]:
    """The id and the file of the last picture of a new run: in the second row of its batch."""
    workspace, uri = store
    given = {"prompt": PROMPTS, "steps": 3, "batch_size": 2, "guidance": 4.0, "device": "cpu", **chosen}
    made = api.generate(evaluate=False, home=workspace.home, tracking_uri=uri, **given)
    with workspace.reading() as session:
        query = select(Image).join(Run).where(Run.uuid == made.summary.run).order_by(Image.prompt_index.desc())
        image = session.scalars(query).first()
        assert image is not None
        return image.id, workspace.image_path(image)


def text_of(store: tuple[Workspace, str], image: int) -> str:
    with store[0].reading() as session:
        return script_of(session, store[0], str(image))


def played(text: str, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the script prints, and ``target`` as it writes it."""
    assert "t2i_track" not in text.replace(str(Path(small.__file__).parents[2]), "")
    monkeypatch.setattr(sys, "argv", ["script.py", str(target)])
    exec(compile(text, "script.py", "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out


@pytest.mark.parametrize("name", RUN)
def test_it_makes_the_recorded_pixels(
    name: str,
    store: tuple[Workspace, str],
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image, file = last_image(store, model=str(tiny(name)), height=64, width=64, **HOW.get(name, {}))
    told = played(text_of(store, image), tmp_path / "again.png", monkeypatch, capsys)
    again, recorded = (png.read_pixels(path).astype(int) for path in (tmp_path / "again.png", file))
    most = 1 if name in WITHIN_ONE else 0
    assert np.abs(again - recorded).max() <= most
    assert told == f"{tmp_path / 'again.png'}: {SAME if (again == recorded).all() else OTHER}\n"


def one_file(model: Path, folder: Path, prefix: str = "") -> Path:
    """The model as one file of original names; with a prefix what lies under it alone."""
    file = folder / "model.safetensors"
    single_file.write(model, file)
    kept = {key: tensor for key, tensor in load_file(file).items() if key.startswith(prefix)}
    save_file(kept, file)
    return file


@pytest.mark.parametrize(
    "chosen",
    [
        {"lora": "sd1-lora-kohya", "lora_scale": 0.5, "embedding": "sd1-embedding-long", "vae": "file"},
        {"model": "fp16-sharded", "dtype": "fp16", "vae": "sd1"},
        {"model": "one-file"},
    ],
)
def test_what_is_put_into_the_model_is_put_in(
    chosen: dict[str, Any],
    store: tuple[Workspace, str],
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = ((name, chosen.get(name)) for name in ("lora", "embedding", "model"))
    places = {name: str(tiny(value)) for name, value in named if value not in (None, "one-file")}
    if chosen.get("model") == "one-file":
        places = {"model": str(one_file(tiny("sd1"), tmp_path)), "model_config": str(tiny("sd1"))}
    if "vae" in chosen:
        own = tiny("sd1") / "vae"
        places["vae"] = str(own if chosen["vae"] == "sd1" else one_file(tiny("sd1"), tmp_path, "first_stage_model."))
    prompts = ["a cat", "a <cat> sd1-embedding-long cat"]
    given = {"model": str(tiny("sd1")), "height": 64, "width": 64, "prompt": prompts, **chosen, **places}
    image, _ = last_image(store, **given)
    assert SAME in played(text_of(store, image), tmp_path / "again.png", monkeypatch, capsys)


@pytest.mark.slow
def test_of_the_embedded_model_it_needs_nothing_of_ours(
    store: tuple[Workspace, str], cli: Callable[..., Any], tmp_path: Path
) -> None:
    image, file = last_image(store, negative_prompt="grey")
    printed = cli("show", image, "--script", "--home", store[0].home)
    assert printed.code == 0, printed.err
    script = tmp_path / "script.py"
    script.write_text(printed.out)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"image.png: {SAME}\n"
    assert (png.read_pixels(tmp_path / "image.png") == png.read_pixels(file)).all()


def test_what_it_cannot_make_is_refused_in_one_line(store: tuple[Workspace, str], tmp_path: Path) -> None:
    image, _ = last_image(store, prompt=["a (red)1.4 circle"], prompt_weighting="compel", steps=2)
    with pytest.raises(SettingsError, match=r"^image \d+ has weighted prompts .*: use t2i reproduce$"):
        text_of(store, image)
    with store[0].reading() as session, session.no_autoflush:
        run = session.scalars(select(Run).order_by(Run.id.desc())).first()
        found = session.get_one(Image, image)
        assert run is not None
        run.config = {**run.config, "resolved": {**run.config["resolved"], "prompt_weighting": "none"}}
        found.note = Note.REMADE.value
        with pytest.raises(SettingsError, match=r"was made again in fp32, alone.*: use t2i reproduce$"):
            script_of(session, store[0], str(image))
        found.note = f"{Note.HALVED}; {Note.TILED}"
        found.batch_size = 1
        text = script_of(session, store[0], str(image))
        assert "BATCH_SIZE, ROW = 1, 0" in text
        assert "pipe.vae.use_tiling = True" in text
        run.config = {**run.config, "resolved": {**run.config["resolved"], "vae": str(tmp_path)}}
        with pytest.raises(ModelError, match=r"^there is no .*config\.json, which says what the VAE is"):
            script_of(session, store[0], str(image))
        session.rollback()
        with pytest.raises(NotFound, match="no image 'nowhere'"):
            script_of(session, store[0], "nowhere")
