"""Manifests of every format, and every way in which a file can be wrong."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t2i_track.errors import ManifestError
from t2i_track.prompts.manifest import Entry, Manifest, from_prompts, load, normalise

prompt = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30).filter(normalise)
prompts = st.lists(prompt, min_size=1, max_size=8)
in_a_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def table(rows: list[list[str]], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()


def written(folder: Path, ending: str, prompts: list[str]) -> Path:
    contents = {
        "csv": table([["id", "Caption"], *([str(n), text] for n, text in enumerate(prompts))]),
        "tsv": table([["prompt", "id"], *([text, str(n)] for n, text in enumerate(prompts))], "\t"),
        "jsonl": "".join(json.dumps({"text": text}) + "\n" for text in prompts),
        "ndjson": "\n".join(json.dumps(text, ensure_ascii=False) for text in prompts),
        "txt": "\r\n".join(normalise(text) for text in prompts),
    }
    path = folder / f"x.{ending}"
    path.write_bytes(contents[ending].encode())
    return path


@given(prompts, st.sampled_from(["csv", "tsv", "jsonl", "ndjson", "txt"]))
@in_a_folder
def test_every_format_holds_the_same_prompts(tmp_path: Path, prompts: list[str], ending: str) -> None:
    loaded = load(written(tmp_path, ending, prompts))
    assert loaded.prompts == [normalise(text) for text in prompts]
    assert loaded.sha256 == from_prompts(prompts).sha256


@given(st.text())
@settings(deadline=None)
def test_normal_text_stays(text: str) -> None:
    normal = normalise(text)
    assert normalise(normal) == normal
    assert normal.split() == text.split()
    assert "  " not in normal
    assert normal == normal.strip()


@given(prompts)
@settings(deadline=None)
def test_white_space_does_not_change_the_hash(prompts: list[str]) -> None:
    spaced = [f"\u00a0 {text}\t\r\n".replace(" ", "  ") for text in prompts]
    assert from_prompts(spaced).sha256 == from_prompts(prompts).sha256


@given(prompts, prompts)
@settings(deadline=None)
def test_other_prompts_or_another_order_change_the_hash(first: list[str], second: list[str]) -> None:
    one, two = from_prompts(first), from_prompts(second)
    assert (one.sha256 == two.sha256) == (one.prompts == two.prompts)


def test_the_hash_is_as_documented() -> None:
    manifest = Manifest("any", (Entry("a “b”", "7", None, "/x/y.jpg"), Entry("c")))
    rows = '["a “b”","7",null]\n["c",null,null]\n'
    assert manifest.sha256 == hashlib.sha256(rows.encode()).hexdigest()


def test_head() -> None:
    manifest = from_prompts(["a", "b", "c"])
    assert manifest.head(2).prompts == ["a", "b"]
    assert manifest.head(None) is manifest
    assert manifest.head(9) is manifest
    with pytest.raises(ManifestError, match="0 prompts cannot be taken from command line: ask for 1 or more"):
        manifest.head(0)


def test_partiprompts_as_it_is(tmp_path: Path) -> None:
    """Tab-separated without quoting: quotation marks are text, also at the front; blanks around are not."""
    path = tmp_path / "PartiPrompts.tsv"
    path.write_text(
        "Prompt\tCategory\tChallenge\tNote\n"
        "bond\tAbstract\tBasic\tBiology-inspired concepts\n"
        '"Hello" written on a wall\tArts\tWriting & Symbols\t\n'
        ' the word "START" on a t-shirt \tArts\tWriting & Symbols\t\n'
        "A bowl of Pho\tFood & Beverage\tBasic\t\n"
    )
    expected = ["bond", '"Hello" written on a wall', 'the word "START" on a t-shirt', "A bowl of Pho"]
    assert load(path).prompts == expected


def test_drawbench_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "drawbench.csv"
    path.write_bytes(b'\xef\xbb\xbfPrompts,Category\r\nA red colored car.,Colors\r\n"A sign, ""Hi"".",Text\r\n')
    assert load(path).prompts == ["A red colored car.", 'A sign, "Hi".']


def test_ids_and_paths(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(
        "image_id,caption_id,image_path,caption,other\n7,8,photos/a  b.jpg,one,x\n,,,two\n9,,/abs/c.jpg,three,\n"
    )
    assert load(path).entries == (
        Entry("one", "7", "8", f"{tmp_path.as_posix()}/photos/a  b.jpg"),
        Entry("two"),
        Entry("three", "9", None, "/abs/c.jpg"),
    )
    path = tmp_path / "m.jsonl"
    path.write_text('{"prompt": "one", "image_id": 7, "caption_id": null}\n\n{"Prompt": "two"}\n')
    assert load(path).entries == (Entry("one", "7"), Entry("two"))


def test_lines_end_at_cr_and_lf_only(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_bytes("one\u2028still one\rtwo\x0bstill two\r\n\r\n   \nthree".encode())
    assert load(path).prompts == ["one still one", "two still two", "three"]


def test_the_first_of_several_names_is_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("text,prompt,CAPTION\na,b,c\n")
    assert load(path).prompts == ["c"]


def test_long_fields_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("prompt\n" + "x" * 200_000)
    assert len(load(path).prompts[0]) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", None, "m.csv: there is no such manifest: check the path"),
        ("m.csv", b"", "m.csv: the manifest is empty: add a header line and a line for each prompt"),
        ("m.csv", b"caption\n", "m.csv: the manifest has no prompts: add a line for each prompt"),
        ("m.txt", b"\n  \n", "m.txt: the manifest has no prompts: add a line for each prompt"),
        (
            "m.csv",
            b"name,file\na,b\n",
            "m.csv: no column caption, prompt, prompts or text; its columns are 'name', 'file'",
        ),
        (
            "m.tsv",
            b"name,prompt\na,b\n",
            "m.tsv: no column caption, prompt, prompts or text; its columns are 'name,prompt'",
        ),
        ("m.csv", b"prompt,Prompt\na,b\n", "m.csv: the column 'prompt' is there 2 times: rename one"),
        ("m.csv", b"prompt,image_id,image_id\na,b,c\n", "m.csv: the column 'image_id' is there 2 times: rename one"),
        ("m.csv", b"prompt\na\na, b\n", "m.csv, line 3: 2 fields under 1 columns: quote fields with commas"),
        (
            "m.csv",
            b'prompt\n"a" b\n',
            "m.csv: not a CSV file (',' expected after '\"'): quote fields that hold commas or quotes",
        ),
        (
            "m.csv",
            b'prompt\n"a',
            "m.csv: not a CSV file (unexpected end of data): quote fields that hold commas or quotes",
        ),
        ("m.csv", b"id,prompt\n1,a\n2\n", "m.csv, line 3: the prompt is empty: fill it in or delete the line"),
        ("m.csv", b"prompt,id\na,1\n ,2\n", "m.csv, line 3: the prompt is empty: fill it in or delete the line"),
        ("m.csv", b"prompt\nok\ncaf\xe9\n", "m.csv, line 3: byte 0xe9 is not UTF-8: save the manifest as UTF-8"),
        ("m.csv", b"prompt\nok\na\0b\n", "m.csv, line 3: contains a NUL character: is this a text file?"),
        ("m.txt", "hi".encode("utf-16"), "m.txt: the manifest is UTF-16: save it as UTF-8"),
        (
            "m.jsonl",
            b'{"prompt": "a"}\n{"prompt": }\n',
            "m.jsonl, line 2: not JSON (Expecting value): each line is one JSON object",
        ),
        ("m.jsonl", b'{"prompt": "\\ud800"}', "m.jsonl, line 1: '\\ud800' is not a character: save the text as UTF-8"),
        ("m.jsonl", b"\n[1]", "m.jsonl, line 2: a line is a JSON object or string, not [1]"),
        ("m.jsonl", b'{"a": 1}', "m.jsonl, line 1: no key caption, prompt, prompts or text; its keys are ['a']"),
        ("m.jsonl", b'{"prompt": 1}', "m.jsonl, line 1: the prompt must be text, not 1"),
        (
            "m.jsonl",
            b'{"prompt": "a", "image_id": 1.5}',
            "m.jsonl, line 1: image_id must be text or a whole number, not 1.5",
        ),
        ("m.jsonl", b"[" * 200_000, "m.jsonl, line 1: not JSON (too deep or too long): each line is one JSON object"),
    ],
)
def test_wrong_files_are_one_clear_line(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        load(tmp_path / name)
    assert str(caught.value).removeprefix(f"{tmp_path}/") == message


def test_a_folder_is_not_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(ManifestError, match=r"x\.csv: a manifest is a file, and this is a folder: name the file in it"):
        load(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "command line: the manifest has no prompts: add a line for each prompt"),
        (["a", " "], "prompt 2 of the command line: the prompt is empty: fill it in or delete the line"),
        (["\udcff"], "prompt 1 of the command line: '\\udcff' is not a character: save the text as UTF-8"),
    ],
)
def test_wrong_prompts(prompts: list[str], message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        from_prompts(prompts)
    assert str(caught.value) == message
