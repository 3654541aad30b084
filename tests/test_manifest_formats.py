"""Whatever writes a list of prompts, the same list is read; and a raw table loses no row without saying where."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from t2i_track.errors import ManifestError
from t2i_track.prompts.manifest import Entry, from_prompts, load
from t2i_track.prompts.text import MARK, normalise

HARD = "\"',\t\n\r\u2028\u2029\x85\x0b ab\\;=@" + MARK
letter = (
    st.sampled_from(HARD)
    | st.sampled_from("红猫🐈é")
    | st.characters(exclude_categories=["Cs"], exclude_characters="\0")
)
prompts = st.lists(st.text(letter, max_size=20).filter(normalise), min_size=1, max_size=8)
in_a_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path: Path, texts: list[str], by: str) -> Path:
    frame = pd.DataFrame({"id": range(len(texts)), "prompt": texts})
    buffer = io.StringIO()
    if by == "csv":
        csv.writer(buffer).writerows([["prompt", "id"], *([text, str(n)] for n, text in enumerate(texts))])
    elif by == "pandas csv":
        frame.to_csv(buffer, index=False)
    elif by == "json":
        json.dump(texts, buffer)
    elif by == "pandas json":
        frame.to_json(buffer, orient="records")
    elif by == "pandas jsonl":
        frame.to_json(buffer, orient="records", lines=True, force_ascii=False)
    else:
        frame.to_parquet(path)
        return path
    content = buffer.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@given(prompts)
@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("x.csv", "csv"),
        ("x.csv", "pandas csv"),
        ("x.csv.gz", "pandas csv"),
        ("x.json", "json"),
        ("x.json.gz", "pandas json"),
        ("x.jsonl", "pandas jsonl"),
        ("x.NDJSON.GZ", "pandas jsonl"),
        ("x.parquet", "pandas parquet"),
    ],
)
@in_a_folder
def test_what_is_written_is_read(name: str, by: str, tmp_path: Path, prompts: list[str]) -> None:
    path = tmp_path / name
    loaded = load(written(path if name != "x.NDJSON.GZ" else tmp_path / "x.ndjson.gz", prompts, by))
    assert loaded.prompts == [normalise(text) for text in prompts]
    assert loaded.sha256 == from_prompts(prompts).sha256


@given(prompts)
@in_a_folder
def test_a_quoted_tsv_is_read_or_refused_with_its_line(tmp_path: Path, prompts: list[str]) -> None:
    """Only a text whose every line would be a row by itself is refused: rows with stray marks look the same."""
    buffer = io.StringIO()
    csv.writer(buffer, delimiter="\t").writerows([["id", "prompt", "x"], *(["7", text, ""] for text in prompts)])
    path = tmp_path / "x.tsv"
    path.write_bytes(buffer.getvalue().encode())
    found = read(path)
    if isinstance(found, str):
        assert "a quotation mark opens a field here" in found
        assert any("\t" in text for text in prompts)
    else:
        assert found == [normalise(text) for text in prompts]


def read(path: Path) -> list[str] | str:
    """The prompts, or the message that refuses them."""
    try:
        return load(path).prompts
    except ManifestError as error:
        return str(error)


def raw(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_bytes("\n".join("\t".join(row) for row in [("prompt", "note"), *rows]).encode())
    return path


raw_field = st.text(st.sampled_from("\"' ,ab\u2028é猫"), max_size=8)
raw_text = raw_field.filter(lambda text: normalise(text.replace('"', "")))
raw_rows = st.lists(st.tuples(raw_text, raw_field), min_size=1, max_size=8)


@given(raw_rows)
@example([('"start here it is said', "1"), ("a tall one", "2"), ('a board of 5"', "3"), ("plain", "4")])
@example([('"a', "1"), ('b"', "2")])
@example([("x", '"'), ('"', "y")])
@in_a_folder
def test_raw_rows_in_are_rows_out_or_a_line_is_named(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    found = read(raw(tmp_path / "x.tsv", rows))
    assert ", line " in found if isinstance(found, str) else len(found) == len(rows)


@given(raw_rows, raw_rows)
@in_a_folder
def test_quotes_stay_or_go_by_their_own_field(
    tmp_path: Path, rows: list[tuple[str, str]], others: list[tuple[str, str]]
) -> None:
    """What a row says does not depend on the rows around it."""

    one, two, both = (read(raw(tmp_path / "x.tsv", part)) for part in (rows, others, [*rows, *others]))
    if isinstance(one, list) and isinstance(two, list) and isinstance(both, list):
        assert both == one + two


@given(st.lists(st.text(letter, max_size=12).map(lambda text: text.replace("\n", " ").replace("\r", " ")), max_size=8))
@in_a_folder
def test_lines_in_are_prompts_out(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("\n".join(["first", *lines]).encode())
    assert load(path).prompts == ["first", *(normalise(line) for line in lines if normalise(line))]


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        ('id\tprompt\n1\t"Hello" on a wall\n2\t"a ""quoted"" one"\n3\ta 5" board\n4\t"Hi"\n', None),
        ('id\tprompt\n1\t"never closed\n2\ta ""b"" c\n', ['"never closed', 'a ""b"" c']),
        ('prompt\tid\r\n"two\r\nlines"\t1\r\n"a\ttab"\t2\r\n', ["two lines", "a tab"]),
        ('id\tprompt\n1\t"two\nlines"\n2\tx', ["two lines", "x"]),
        ("prompt\tid\n\na\t1\n\t\nb\n", ["a", "b"]),
    ],
)
def test_tables_with_tabs(content: str, prompts: list[str] | None, tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(content.encode())
    assert load(path).prompts == (prompts or ['"Hello" on a wall', 'a "quoted" one', 'a 5" board', "Hi"])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('id\tPrompt\n1\t"start here it is said\n2\ta tall one\n3\ta board of 5"\n4\tplain\n', 2),
        ('Prompt\nplain\n"one\ntwo"\n', 3),
        ('prompt\tnote\n"a\tb"\n', 2),
    ],
)
def test_what_can_be_read_in_two_ways_is_named(content: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(content.encode())
    with pytest.raises(ManifestError, match=rf"x\.tsv, line {line}: a quotation mark opens a field here that closes"):
        load(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.txt", f"{MARK}a cat\n{MARK}a dog"),
        ("x.csv", f'prompt,id\n{MARK}"a cat",1\na {MARK}dog,2'),
        ("x.tsv", f"{MARK}prompt\tid\n{MARK}a cat\t1\na dog{MARK}\t2"),
        ("x.jsonl", f'{MARK}"a cat"\n{MARK}{{"{MARK}text": "a dog"}}'),
        ("x.json", json.dumps([f"a{MARK} cat", f"{MARK}a dog"])),
    ],
)
def test_byte_order_marks_are_no_letters(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    assert load(tmp_path / name).prompts == ["a cat", "a dog"]


def test_hugging_face_s_file_name_is_the_picture(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name":"a/1.png","text":"one"}\n{"file_name":["x"],"text":"two"}\n')
    (tmp_path / "metadata.csv").write_text("file_name,text\na/1.png,one\n,two\n")
    expected = (Entry("one", image_path=f"{tmp_path}/a/1.png"), Entry("two"))
    assert load(tmp_path / "metadata.jsonl").entries == load(tmp_path / "metadata.csv").entries == expected
    (tmp_path / "both.csv").write_text("file_name,image_path,text\na.png,b.png,one\n")
    assert load(tmp_path / "both.csv").entries == (Entry("one", image_path=f"{tmp_path}/b.png"),)


def test_parquet_has_ids_and_only_the_columns_that_are_wanted(tmp_path: Path) -> None:
    frame = pd.DataFrame({"Prompt": ["a", "b"], "image_id": [7, None], "file_name": ["1.png", None], "x": [b"1", b"2"]})
    frame.to_parquet(tmp_path / "m.parquet")
    assert load(tmp_path / "m.parquet").entries == (Entry("a", "7", None, f"{tmp_path}/1.png"), Entry("b"))
    pd.DataFrame({"prompt": ["a", None]}).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match=r"m\.parquet, row 2: the prompt must be text, not None"):
        load(tmp_path / "m.parquet")


@pytest.mark.parametrize(
    ("name", "content", "sha256"),
    [
        (
            "m.csv",
            'Prompts,Category\r\nA red car.,x\r\n"A sign, ""Hi"".\nTwo  lines",y\r\n',
            "11ff7e2f3d3097b7",
        ),
        (
            "m.tsv",
            'Prompt\tNote\n"G I G G L E" painted\t\n a "START" shirt \tx\n5" board\t\n',
            "6603016fb8f3df59",
        ),
        (
            "m.tsv",
            'Prompt\tNote\n"a ""b"""\t\n"two\nlines"\tx\n"a\ttab"\ty\nplain\t\n',
            "3253770d08811412",
        ),
        (
            "m.jsonl",
            '{"prompt": "one", "image_id": 7, "x": NaN}\n"two"\n',
            "b6fbfc438e9727e1",
        ),
        ("m.txt", "one\u2028still one\rtwo\n\n", "0e80b9946a0b2297"),
    ],
)
def test_the_hash_of_what_was_read_before_stays(name: str, content: str, sha256: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert load(tmp_path / name).sha256[:16] == sha256


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.json", b"{}", "a manifest is a JSON list of prompts or of objects, not dict; of COCO's annotations"),
        ("m.json", b'{"annotations": []}', "COCO's annotations: run `t2i data coco --annotations"),
        ("m.json", b'"a"', "a manifest is a JSON list of prompts or of objects, not str"),
        ("m.json", b'["a", 1]', "item 2: must be a JSON object or string, not 1"),
        ("m.json", b'["a", {"x": 1}]', "item 2: no key caption, prompt, prompts or text; its keys are ['x']"),
        ("m.json", b'{"prompt": "a"}\n{"prompt": "b"}', "with an object on each line it ends in .jsonl"),
        ("m.json", b"[" * 200_000, "not JSON (too deep or too long)"),
        ("m.jsonl", b'{"prompt": "a", "image_id": %s}' % (b"9" * 5000), "line 1: not JSON (too deep or too long)"),
        ("m.jsonl", b'{"prompt": "a", "image_id": NaN}', "image_id must be text or a whole number, not nan"),
        ("m.jsonl", b'{"prompt": "a", "image_id": 1e300}', "image_id must be text or a whole number, not 1e+300"),
        (
            "m.json",
            b'["a", {"prompt": "b", "id": 1, "prompt": "c"}]',
            "the key 'prompt' is there twice: keep one of them",
        ),
        ("m.json", b'{"x": 1, "x": 2}', "the key 'x' is there twice: keep one of them"),
        (
            "m.jsonl",
            b'"a"\n{"prompt": "b", "prompt": "b"}',
            "line 2: the key 'prompt' is there twice: keep one of them",
        ),
        ("m.jsonl", b'{"prompt": "b", "image_id": 1, "image_id": 2}', "line 1: the key 'image_id' is there twice"),
        ("m.jsonl", b'{"prompt": "b", "x": [{"y": 1, "\\u0079": 2}]}', "line 1: the key 'y' is there twice"),
        ("m.jsonl", b'{"prompt": "b", "Prompt": "c"}', "line 1: the key 'prompt' is there more than once (prompt, Pro"),
        ("m.csv", b"sep=;\nid;prompt\n1;a", "its first line says that ';' parts the fields: write commas, or a .tsv"),
        ("m.csv", b'"SEP=|"\r\nid|prompt\r\n1|a', "says that '|' parts the fields: write commas, or a .tsv with tabs"),
        ("m.tsv", b"sep=,\nid,prompt\n1,a", "says that ',' parts the fields: write tabs, or a .csv with commas"),
        ("m.csv", b"sep=,", "the manifest is empty: add a header line and a line for each prompt"),
        ("m.csv", b"sep=,\nprompt\na\n,b", "m.csv, line 4: 2 fields under 1 columns"),
        ("m.tsv", b"sep=\t\nprompt\na\n\tb", "m.tsv, line 4: 2 fields under 1 columns"),
        ("m", b"a", "not in '': rename it if it is one of these, else save it as one"),
        ("m.text", b"a", "not in '.text': rename it if it is one of these, else save it as one"),
        ("m.xlsx", b"PK", "not in '.xlsx': save the sheet as CSV (UTF-8)"),
        ("m.csv.zip", b"PK", "not in '.zip': unpack it"),
        ("m.parquet.gz", b"PK", "not in '.gz'"),
        ("m.csv", b"PK\3\4more", "is a zip file or a spreadsheet: unpack it, or save the sheet as CSV (UTF-8)"),
        ("m.csv", gzip.compress(b"prompt\na", mtime=0), "the manifest is packed by gzip: let its name end in .gz"),
        ("m.txt", b"version https://git-lfs.github.com/spec/v1\n", "only a pointer of Git LFS: run `git lfs pull`"),
        ("m.csv.gz", b"prompt\na", "not packed by gzip, or cut off: is the download complete?"),
        (
            "m.csv.gz",
            gzip.compress(b"prompt\na", mtime=0)[:-9],
            "not packed by gzip, or cut off: is the download complete?",
        ),
        (
            "m.csv.gz",
            gzip.compress(b"name\na", mtime=0),
            "no column caption, prompt, prompts or text; its columns are 'name'",
        ),
        (
            "m.csv.gz",
            gzip.compress(gzip.compress(b"prompt\na", mtime=0), mtime=0),
            "is packed by gzip twice: unpack it once",
        ),
        ("m.csv", "prompt\na".encode("utf-16-le"), "is UTF-16, or no text: save it as UTF-8"),
        ("m.jsonl", b'["a"]\n', 'line 1: a line is a JSON object or string, not ["a"]'),
        ("m.csv.gz", None, "there is no such manifest: check the path"),
        ("m.parquet", b"prompt\na", "not a Parquet file that can be read ("),
        ("m.parquet", None, "there is no such manifest: check the path"),
        ("m.csv", b"id;prompt\n1;a", "its columns are 'id;prompt': write commas for ';', or a .tsv with tabs"),
        ("m.csv", b"id,prompt\n1,a\n\xef\xbb\xbfid,prompt\n", "line 3: the header stands here again: were two files"),
        ("m.tsv", b"prompt\na\nprompt\nb", "line 3: the header stands here again: were two files joined?"),
        ("m.tsv", b"prompt\tid\na\tb\tc", "line 2: 3 fields under 2 columns: quote fields with tabs"),
    ],
)
def test_what_cannot_be_read_is_said_with_a_true_next_step(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        load(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        ("m.csv", "sep=,\nprompt,image_id\na cat,1\n", ["a cat"]),
        ("m.csv", '\ufeff"sep=,"\r\nprompt,image_id\r\n"a, b",1\r\n', ["a, b"]),
        ("m.csv", "SEP=,\rprompt\ra\r", ["a"]),
        ("m.tsv", 'sep=\t\nprompt\tid\n"a\tb"\t1\n', ["a b"]),
        ("m.csv", "prompt\nsep=;\n", ["sep=;"]),
        ("m.txt", "sep=,\na\n", ["sep=,", "a"]),
        (
            "m.jsonl",
            '{"prompt": "a", "more": {"prompt": "b"}}\n{"prompt": "c", "more": ["prompt", "prompt"]}',
            ["a", "c"],
        ),
        ("m.json", '[{"prompt": "a", "x": {"y": 1}, "y": {"y": 1}}]', ["a"]),
    ],
)
def test_what_looks_like_it_is_read(name: str, content: str, prompts: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert load(tmp_path / name).prompts == prompts


@pytest.mark.parametrize("name", ["prompts", "prompts.csv", "prompts.parquet", "prompts.json.gz"])
def test_a_folder_is_no_manifest(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ManifestError, match="a manifest is a file, and this is a folder: name the file in it"):
        load(tmp_path / name)
