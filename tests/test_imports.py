"""Pictures that other programs made become runs; what they do not tell is unknown, and all that reads takes it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign_pictures import MADE, PROMPTS, TOOLS, a1111, comfyui, outputs, pixels, png, swarmui
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from t2i_track import api, shapes
from t2i_track.db.models import Image, Run
from t2i_track.errors import MetricError, ProtocolMismatch, SettingsError, TransferError
from t2i_track.importing import FORMATS, tools
from t2i_track.importing.found import Found, Unreadable
from t2i_track.importing.samplers import named
from t2i_track.runs import trash
from t2i_track.runs.imports import Import
from t2i_track.workspace import Workspace

WORDS = ["seed", "sampler", "inputs", "model", "image", "sui_image_params", "prompt", "scheduler"]
NESTED = "[" * 50_000 + "]" * 50_000
Importer = Callable[..., Import]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> tuple[Path, Import]:
    """A home with the folder of all formats in it; only to be read."""
    import shutil

    root = tmp_path_factory.mktemp("imported")
    shutil.copyfile(fresh_mlflow_store, root / "mlflow.db")
    found = api.import_pictures(
        outputs(root / "outputs"), experiment="tools", tracking_uri=f"sqlite:///{root}/mlflow.db", home=root / "home"
    )
    return root, found


@pytest.fixture
def take(tmp_path: Path, tracking_uri: str) -> Importer:
    """Imports a folder into the test's own home."""

    def run(folder: Path, **options: Any) -> Import:
        given = {"home": tmp_path / "home", "tracking_uri": tracking_uri, "experiment": "t"}
        return api.import_pictures(folder, **{**given, **options})

    return run


def test_every_format_becomes_runs_of_its_settings(home: tuple[Path, Import]) -> None:
    _, found = home
    assert found.imported == MADE == 40
    assert found.said.startswith("40 pictures imported into 14 runs, 5 files left out (")
    told = {(run.origin, run.guidance, run.steps, run.scheduler, run.model) for run in found.runs if run.guidance != 4}
    assert told == {
        ("a1111", 7.5, 20, "dpm++2m-karras", "v1-5-pruned-emaonly"),
        ("comfyui", 7.5, 20, "euler-a", "sd_xl_base_1.0.safetensors"),
        ("fooocus", 7.5, 30, "dpm++2m-sde", "juggernautXL_v8"),
        ("invokeai", 7.5, 25, "dpm++2m-karras", "Dreamshaper 8"),
        ("novelai", 7.5, 28, "euler-a", "Stable Diffusion XL"),
        ("swarmui", 7.5, 20, "euler", "OfficialStableDiffusion/sd_xl_base_1.0"),
        ("diffusers", 5.0, 30, None, "org/sd"),
        ("scripts", None, None, None, "unknown"),
    }


def test_what_is_left_out_is_named_with_the_reason(home: tuple[Path, Import]) -> None:
    assert home[1].left_out == {
        "not pictures by their ending": ("clip.mp4", "notes.txt"),
        "cannot be decoded (image file is truncated)": ("cut.png",),
        "cannot be decoded (an empty file)": ("empty.png",),
        "cannot be decoded (cannot identify image file)": ("page.png",),
    }


def test_rows_hold_what_is_known_and_null(home: tuple[Path, Import]) -> None:
    with Workspace(home[0] / "home").reading() as session:
        runs = {run.name: run for run in session.scalars(select(Run))}
        mute, known = runs["scripts-old"], runs["a1111-dpm++2m-karras-g7.5-s20"]
        assert [mute.guidance, mute.steps, mute.scheduler, mute.dtype, mute.device, mute.batch_size] == [None] * 6
        assert [image.prompt.text for image in mute.images] == sorted(PROMPTS[:2])
        assert [image.seed for image in mute.images] == [None, None]
        assert [image.prompt.text for image in known.images] == sorted(PROMPTS[:3])
        assert {image.seed for image in known.images} == {100, 101, 102}
        assert known.negative_prompt == "blurry"
        assert known.model.weights_sha256 is None
        assert known.model.revision == "6ce0161689"
        assert all(Path(image.path).is_absolute() for image in known.images)
        # All six programs were asked for the same three prompts: so are their manifests.
        assert len({run.manifest_id for run in runs.values() if run.origin in TOOLS}) == 1


def test_the_same_folder_again_adds_nothing_and_new_files_join_their_runs(tmp_path: Path, take: Importer) -> None:
    folder = tmp_path / "out"
    for number, prompt in enumerate(PROMPTS[1:4]):
        png(folder / f"{number}.png", number, a1111(prompt, number, 7))
    first = take(folder)
    again = take(folder)
    assert (again.imported, again.known, again.runs) == (0, 3, ())
    assert again.said == "0 pictures imported, 3 known"
    png(folder / "new.png", 9, a1111(PROMPTS[0], 9, 7))
    png(folder / "second.png", 10, a1111(PROMPTS[1], 8, 7))
    more = take(folder)
    assert more.said == "2 pictures imported into 1 run, 3 known"
    assert [(run.run, run.images, run.added) for run in more.runs] == [(first.runs[0].run, 5, 2)]
    with Workspace(tmp_path / "home").reading() as session:
        run = session.scalars(select(Run)).one()
        told = [(image.prompt.text, image.prompt_index, image.replicate, image.seed) for image in run.images]
    ordered = sorted(PROMPTS[:4])
    twice = ordered.index(PROMPTS[1])
    assert [one[:3] for one in told if one[2] == 0] == [(prompt, place, 0) for place, prompt in enumerate(ordered)]
    assert [one[1:] for one in told if one[0] == PROMPTS[1]] == [(twice, 0, 0), (twice, 1, 8)]
    trash.delete(Workspace(tmp_path / "home"), None, [more.runs[0].run])
    assert take(folder).said == ("0 pictures imported, 5 known (5 in the trash: `t2i delete --undo` or `t2i gc`)")


def test_equal_files_are_one_picture(tmp_path: Path, take: Importer) -> None:
    png(tmp_path / "out" / "a.png", 1, a1111("a cat", 1, 7))
    (tmp_path / "out" / "b.png").write_bytes((tmp_path / "out" / "a.png").read_bytes())
    assert take(tmp_path / "out").left_out == {"equal to another": ("b.png",)}


def test_copies_lie_in_the_home(tmp_path: Path, take: Importer) -> None:
    png(tmp_path / "out" / "a.png", 1, a1111("a cat", 1, 7))
    found = take(tmp_path / "out", copy=True)
    (tmp_path / "out" / "a.png").unlink()
    assert found.notes == ()
    with Workspace(tmp_path / "home").reading() as session:
        image = session.scalars(select(Image)).one()
        assert not Path(image.path).is_absolute()
        assert (tmp_path / "home" / image.path).is_file()


def test_pictures_without_a_word_are_one_run_of_each_folder(tmp_path: Path, take: Importer) -> None:
    for number, folder in enumerate(("x", "x", "y")):
        png(tmp_path / "out" / folder / f"{number}.png", number, {})
    found = take(tmp_path / "out")
    assert [(run.name, run.images) for run in found.runs] == [("unknown-x", 2), ("unknown-y", 1)]
    assert found.notes[0].startswith("3 of 3 pictures have no prompt that is known (0.png, 1.png, 2.png): ")


def test_the_home_in_the_folder_is_no_output(tmp_path: Path, take: Importer) -> None:
    png(tmp_path / "home" / "cache" / "references" / "1.png", 1, {})
    png(tmp_path / "a.png", 2, a1111("a cat", 1, 7))
    assert take(tmp_path).said == "1 picture imported into 1 run"


def test_only_what_one_program_made(home: tuple[Path, Import], take: Importer) -> None:
    found = take(home[0] / "outputs", made_by="swarmui")
    assert (found.imported, {run.origin for run in found.runs}) == (6, {"swarmui"})
    assert len(found.left_out["not of swarmui"]) > 30


def test_a_table_of_names_ids_or_rows(tmp_path: Path, take: Importer) -> None:
    for number, name in enumerate(("cats/x.png", "000071.png", "72.png")):
        png(tmp_path / "out" / name, number, {})
    (tmp_path / "out" / "metadata.jsonl").write_text(
        json.dumps({"file_name": "cats/x.png", "text": "猫\u2028 ", "guidance": 3, "steps": "9", "seed": 5}) + "\n",
        "utf-8",
    )
    (tmp_path / "coco.csv").write_text("image_id,caption_id,caption\n71,1,one\n72,2,two\n", encoding="utf-8")
    found = take(tmp_path / "out", table=tmp_path / "coco.csv")
    assert {(run.origin, run.guidance, run.steps, run.images) for run in found.runs} == {
        ("imagefolder", 3.0, 9, 1), ("scripts", None, None, 2),
    }  # fmt: skip
    with Workspace(tmp_path / "home").reading() as session:
        told = {Path(image.path).name: image.prompt.text for image in session.scalars(select(Image))}
    assert told == {"x.png": "猫", "000071.png": "one", "72.png": "two"}
    with pytest.raises(TransferError, match="speaks of no picture"):
        take(tmp_path / "out", table=tmp_path / "out" / "72.png")


def test_jpeg_and_webp_say_it_in_exif(tmp_path: Path) -> None:
    from PIL import Image as PilImage

    text = swarmui(PROMPTS[1], 5, 7)["parameters"]
    for name in ("a.jpg", "b.webp"):
        exif = PilImage.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
        pixels(1).save(tmp_path / name, exif=exif)
        found = tools.read(tmp_path / name)
        assert found is not None
        assert (found.origin, found.prompt, found.seed) == ("swarmui", PROMPTS[1], 5)


def test_the_page_names_every_program() -> None:
    page = (Path(__file__).parents[1] / "docs" / "import.md").read_text(encoding="utf-8")
    assert [name for name in FORMATS if f"| `{name}` |" not in page] == []


def test_comfyui_without_a_workflow() -> None:
    found = tools.understood(comfyui("a cat", 3, 7, workflow=False))
    assert found is not None
    assert (found.prompt, found.negative_prompt, found.seed) == ("a cat", "watermark", 3)


def test_comfyui_whose_sampler_is_in_parts() -> None:
    graph = {
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["11", 0]}},
        "10": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
        "12": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"}},
        "13": {"class_type": "SamplerCustomAdvanced", "inputs": {"noise": ["25", 0], "guider": ["22", 0],
               "sampler": ["16", 0], "sigmas": ["17", 0], "latent_image": ["27", 0]}},
        "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "17": {"class_type": "BasicScheduler", "inputs": {"scheduler": "normal", "steps": 20, "denoise": 1}},
        "22": {"class_type": "BasicGuider", "inputs": {"model": ["12", 0], "conditioning": ["26", 0]}},
        "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": 219670278747233}},
        "26": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
    }  # fmt: skip
    found = tools.understood({"prompt": json.dumps(graph)})
    assert found is not None
    assert (found.prompt, found.negative_prompt, found.seed, found.guidance) == ("a cat", "", 219670278747233, 3.5)
    assert (found.steps, found.scheduler, found.model) == (20, "euler", "flux1-dev.safetensors")


def test_values_that_no_picture_has_are_unknown() -> None:
    text = "a cat\nSteps: 99999999, Sampler: Euler a, CFG scale: nan, Seed: 18446744073709551615, Size: 64x64"
    found = tools.understood({"parameters": text})
    assert found is not None
    assert (found.steps, found.guidance, found.seed, found.scheduler) == (None, None, None, "euler-a")
    assert found.note == "its seed 18446744073709551615 is more than a database holds"


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"prompt": '{"1": ' + NESTED + "}"}, "nested too deeply"),
        ({"parameters": "Steps"}, "its 'parameters' cannot be read"),
        ({"invokeai_metadata": '{"scheduler": [1]}'}, None),
        ({"prompt": '{"3": {"class_type": 5, "inputs": []}}'}, "no sampler that is known"),
        ({"Comment": "9" * 5000, "Source": ""}, "its 'Comment' cannot be read"),
        ({"parameters": f"{'x' * 70_000}\nSteps: 1, Sampler: Euler, CFG scale: 1, Seed: 1"}, "a prompt of 70,000"),
        ({"Dream": " " * 2**20}, "its 'Dream' has 1,048,576 characters, where 16,384 are read"),
        ({"Comment": "{}", "Source": " " * 2**20}, "its 'Source' has 1,048,576 characters"),
        ({"Dream": '"a" -s ' + "9" * 5000}, "its 'Dream' cannot be read"),
    ],
)
def test_words_that_cannot_be_read_are_said_in_a_line(texts: dict[str, str], reason: str | None) -> None:
    if reason is None:
        assert isinstance(tools.understood(texts), Found)
        return
    with pytest.raises(Unreadable, match=reason) as told:
        tools.understood(texts)
    assert len(str(told.value)) < 200


def test_hostile_texts_are_kept_as_text(tmp_path: Path, take: Importer) -> None:
    png(tmp_path / "out" / "a.png", 1, swarmui("a\x1b[31m cat\0 \ud800 =cmd()", 1, 7))
    found = take(tmp_path / "out")
    with Workspace(tmp_path / "home").reading() as session:
        assert session.scalars(select(Image)).one().prompt.text == "a\x1b[31m cat\N{REPLACEMENT CHARACTER} ? =cmd()"
    assert found.imported == 1


def test_a_bomb_is_neither_unpacked_nor_decoded(tmp_path: Path, take: Importer) -> None:
    from PIL.PngImagePlugin import PngInfo
    from test_foreign import resized

    info = PngInfo()
    info.add_text("parameters", "0" * 2**26, zip=True)
    png(tmp_path / "out" / "whole.png", 1, {})
    pixels(1).save(tmp_path / "out" / "a.png", pnginfo=info)
    resized(png(tmp_path / "out" / "b.png", 2, a1111("a cat", 1, 7)), 30_000, 30_000)
    resized(png(tmp_path / "out" / "c.png", 3, a1111("a cat", 1, 7)), 9_000, 9_000)
    found = take(tmp_path / "out")
    assert found.imported == 1
    assert "a.png (its texts have more than 8,388,608 bytes)" in found.notes[1]
    assert sorted(found.left_out) == [
        "cannot be decoded (9000 x 9000 pixels are more than 67108864)",
        "cannot be decoded (Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK)",
        "cannot be decoded (Image size (900000000 pixels) exceeds limit of 178956970 pixels, could be decomp)",
    ]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["t2i", "parameters", "prompt", "invokeai_metadata", "sd-metadata", "Dream", "Comment"]),
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(WORDS), inner),
        ).map(json.dumps),
    ),
)  # fmt: skip
def test_no_text_is_a_traceback(keyword: str, text: str) -> None:
    try:
        found = tools.understood({keyword: text, "Source": "x", "Description": "y"})
    except Unreadable:
        return
    assert found is None or found.origin in FORMATS


@pytest.mark.parametrize(
    ("sampler", "spacing", "ours"),
    [
        ("DPM++ 2M", "Karras", ("dpm++2m-karras", None)),
        ("DPM++ 2M Karras", "", ("dpm++2m-karras", None)),
        ("k_euler_ancestral", "native", ("euler-a", None)),
        ("euler", "karras", ("euler", "karras")),
        ("euler_k", "", ("euler", "karras")),
        ("euler", "simple", ("euler/simple", None)),
        ("DPM++ SDE", "Karras", ("DPM++ SDE/karras", None)),
        ("EulerDiscreteScheduler", "", ("euler", None)),
        ("", "karras", (None, None)),
    ],
)
def test_names_of_samplers(sampler: str, spacing: str, ours: tuple[str | None, str | None]) -> None:
    assert named(sampler, spacing) == ours


@pytest.mark.parametrize("folder", ["none", "a.png", "empty"])
def test_folders_that_are_none(tmp_path: Path, take: Importer, folder: str) -> None:
    pixels(1).save(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TransferError, match=r"is not there|is a file: name its folder|has no pictures"):
        take(tmp_path / folder)
    assert not (tmp_path / "home").exists()


def test_what_reads_runs_takes_the_unknown(home: tuple[Path, Import], cli: Any, tracking_uri: str) -> None:
    root, found = home
    where = ("--home", root / "home")
    mute = next(run.run for run in found.runs if run.origin == "scripts")
    other = next(run.run for run in found.runs if run.origin == "a1111")
    (line,) = [line for line in cli("runs", *where).out.splitlines() if "scripts-old" in line]
    assert line.count("unknown") == 4  # guidance, steps, scheduler, base seed
    assert "pictures of  scripts" in cli("show", mute, *where).out
    assert "guidance" not in json.loads(cli("show", mute, *where, "--format", "json").out)["settings"]
    assert "Size: 64x64" in cli("show", 1, *where).out
    pair = cli("compare", mute, other, *where)
    assert "guidance unknown -> 4, steps unknown -> 20, scheduler unknown -> dpm++2m-karras" in pair.out, pair.err
    ranked = cli("compare", *where)
    assert ranked.code == 1
    assert "--metrics fid --reference FOLDER` measures these" in ranked.err
    asked = cli("db", "query", "SELECT origin, guidance FROM runs WHERE guidance IS NULL", *where, "--format", "json")
    assert json.loads(asked.out) == [{"origin": "scripts", "guidance": None}]
    listed = cli("runs", "--where", "guidance is null and origin = 'scripts'", *where, "--format", "json")
    assert [row["name"] for row in json.loads(listed.out)] == ["scripts-old"]
    refused = cli("generate", "--resume", other, *where)
    assert refused.code == 1
    assert "was imported (its pictures are of a1111), so it cannot be resumed: make one like it with" in refused.err
    assert "so it cannot be reproduced" in cli("reproduce", 1, *where).err
    moved = cli("resync", mute, "--to", tracking_uri, *where)
    assert moved.code == 0, moved.err


def test_mlflow_has_the_origin_and_no_number_that_is_not_known(home: tuple[Path, Import]) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{home[0]}/mlflow.db")
    experiment = client.get_experiment_by_name("tools")
    assert experiment is not None
    runs = {run.data.tags["mlflow.runName"]: run for run in client.search_runs([experiment.experiment_id])}
    assert len(runs) == len(home[1].runs)
    assert runs["scripts-old"].data.tags["t2i.origin"] == "scripts"
    assert "guidance" not in runs["scripts-old"].data.metrics
    assert runs["fooocus-dpm++2m-sde-g4-s30"].data.metrics["guidance"] == 4


def test_named_protocols_refuse_what_is_unknown(home: tuple[Path, Import], tracking_uri: str) -> None:
    mute = next(run.run for run in home[1].runs if run.origin == "scripts")
    with pytest.raises(ProtocolMismatch, match="is 'unknown', not"):
        api.evaluate(mute, protocol="sd-v1-card", home=home[0] / "home", tracking_uri=tracking_uri)
    with pytest.raises(SettingsError, match="was imported"):
        api.generate(resume=mute, home=home[0] / "home", tracking_uri=tracking_uri)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> tuple[Path, Import]:
    """Pictures of the embedded world, so that they are scored with what is installed; one run knows no settings."""
    import shutil

    import numpy as np
    from PIL import Image as PilImage
    from PIL.PngImagePlugin import PngInfo

    root = tmp_path_factory.mktemp("scored")
    shutil.copyfile(fresh_mlflow_store, root / "mlflow.db")
    shapes.write(root / "drawn", 64, splits=("val",))
    drawn = sorted((root / "drawn").rglob("*.png"))
    captions = [row["caption"] for row in shapes.manifest_rows("val", 64)]
    for number, path in enumerate(drawn[:32]):
        for folder, guidance, noise in (("a", 4, 0), ("c", None, 90)):
            shown = np.asarray(PilImage.open(path).convert("RGB")).astype(int)
            moved = shown + np.random.default_rng(number).integers(-noise, noise + 1, shown.shape)
            info = None if guidance is None else a1111(captions[number], number, guidance)["parameters"]
            target = root / "outputs" / folder / f"{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            texts = PngInfo()
            if info is not None:
                texts.add_text("parameters", info)
            PilImage.fromarray(moved.clip(0, 255).astype(np.uint8)).save(target, pnginfo=texts)
    with (root / "outputs" / "c" / "prompts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["image_id", "caption"], *([n, captions[n]] for n in range(32))])
    uri = f"sqlite:///{root}/mlflow.db"
    return root, api.import_pictures(root / "outputs", experiment="s", tracking_uri=uri, home=root / "home")


def test_from_a_folder_to_an_answer(scored: tuple[Path, Import], cli: Any, tmp_path: Path) -> None:
    root, found = scored
    assert found.unscored is None, found.unscored
    assert len(found.scored) == 2
    answer = cli("compare", "--home", root / "home", "--report", tmp_path / "report.html")
    assert answer.code == 0, answer.err
    assert "unknown" in answer.out
    assert "Recommended: " in answer.out
    assert (tmp_path / "report.html").stat().st_size > 2**20
    pair = api.compare(*(run.run for run in found.runs[:2]), home=root / "home")
    assert "different manifests" not in " ".join(pair.notes)
    assert any(metric.change is not None for metric in pair.metrics)  # type: ignore[union-attr]
    with Workspace(root / "home").reading() as session:
        assert session.scalar(select(func.count()).select_from(Image)) == 64


def test_foreign_prompts_are_not_judged_by_the_embedded_world(home: tuple[Path, Import], tracking_uri: str) -> None:
    with pytest.raises(MetricError, match="nothing to measure of run"):
        api.evaluate(home[1].runs[0].run, home=home[0] / "home", tracking_uri=tracking_uri)


def test_the_command_says_what_was_made_and_what_is_next(tmp_path: Path, cli: Any) -> None:
    for number, guidance in enumerate((4, 7)):
        png(tmp_path / "out" / f"{number}.png", number, a1111("a \x1b[31m cat", number, guidance))
    where = ("--home", tmp_path / "home", "--experiment", "web ui")
    done = cli("import", tmp_path / "out", *where)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "2 pictures imported into 2 runs"
    assert lines[-2].startswith("note: the pictures are used where they lie, nothing was copied")
    runs = [line.split()[0] for line in lines[3:5]]
    score, compare = lines[-1].removeprefix("next: ").split(" | ")
    assert score == f"t2i evaluate {' '.join(runs)} --reference FOLDER --home {tmp_path / 'home'}"
    assert compare == f"t2i compare --experiment 'web ui' --home {tmp_path / 'home'}"
    again = json.loads(cli("import", tmp_path / "out", *where, "--format", "json").out)
    assert {name: again[name] for name in ("imported", "known", "runs", "left_out", "unscored")} == {
        "imported": 0, "known": 2, "runs": [], "left_out": {}, "unscored": None,
    }  # fmt: skip
    unscored = cli("import", tmp_path / "out", *where, "--run-name", "b", "--reference", tmp_path / "none")
    assert unscored.code == 0  # nothing was new, so nothing is to be scored
    png(tmp_path / "out" / "new.png", 9, a1111("a dog", 1, 4))
    unscored = cli("import", tmp_path / "out", *where, "--reference", tmp_path / "none")
    assert unscored.code == 1
    assert "t2i: imported, but not scored: no reference" in unscored.err
