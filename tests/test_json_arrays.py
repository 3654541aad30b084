"""Reading in pieces gives what parsing the whole gives, for every shape of file and any size of the pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t2i_track.jsontext import KeyTwice
from t2i_track.prompts import json_arrays

text = st.text(st.sampled_from('ab{}[],:" \\\né😀'), max_size=8)
value = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
record = st.dictionaries(st.sampled_from(["id", "caption", "x"]), value, max_size=3)
document = st.dictionaries(
    st.sampled_from(["images", "annotations", "info", 'odd"key']), value | st.lists(record, max_size=8), max_size=4
)


def gathered(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, part in json_arrays.read(path, dict.fromkeys(names, ("id", "caption"))):
        found[name] = found[name] + part if name in found else part
    return found


@given(document, st.sampled_from([None, 1]), st.booleans(), st.integers(8, 200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_make_the_whole(
    tmp_path: Path, document: dict[str, Any], indent: int | None, ascii_only: bool, piece: int
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document, indent=indent, ensure_ascii=ascii_only), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_arrays, "PIECE", piece)
        found = gathered(path, ("images", "annotations"))
    assert found == {name: document[name] for name in ("images", "annotations") if name in document}


@given(st.lists(record, min_size=3, max_size=8), st.integers(8, 60), st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_file_is_refused(tmp_path: Path, records: list[Any], piece: int, data: st.DataObject) -> None:
    whole = json.dumps({"info": {}, "annotations": records}).encode()
    path = tmp_path / "x.json"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_arrays, "PIECE", piece)
        with pytest.raises(ValueError):  # noqa: PT011 (orjson's words differ with the place of the cut)
            gathered(path, ("annotations",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"[]", "a JSON object is needed, not list"),
        (b'{"annotations": [{}], "annotations": []}', "the key 'annotations' is there twice"),
        (b'{"annotations": [{},]}', "line 1"),
        (b'{"annotations": [{} {}]}', "line 1"),
        (b'{"annotations": [{"a": "\xff"}]}', "not valid UTF-8"),
        (b'{"annotations": []} x', "line 1"),
    ],
)
def test_wrong_files_say_why(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        gathered(path, ("annotations",))


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"annotations": [1, 2]}')
    assert gathered(tmp_path / "x.json", ("annotations",)) == {"annotations": [1, 2]}


@pytest.mark.parametrize("piece", [16, 1 << 20])
@pytest.mark.parametrize(
    "records",
    [
        '[{"id": 1, "caption": "a", "caption": "b"}]',
        '[{"id": 1, "caption": "a"}, {"id": 2, "id": 3, "caption": "b"}]',
        '[{"id": 1, "caption": "a", "x": {"caption": 1, "caption": 2}}]',
        '[{"id": 1, "caption": "a", "caption": "b"}], "odd\\"key": 1, "x": NaN',
    ],
)
def test_a_key_twice_in_an_element(records: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_arrays, "PIECE", piece)
    (tmp_path / "x.json").write_text(f'{{"annotations": {records}}}')
    with pytest.raises(KeyTwice, match=r"the key '(id|caption)' is there twice"):
        gathered(tmp_path / "x.json", ("annotations",))


def test_the_words_of_keys_may_be_values(tmp_path: Path) -> None:
    records = [{"id": 1, "caption": "caption"}, {"id": 2, "caption": '"id", "caption"', "x": {"id": 1}}]
    (tmp_path / "x.json").write_text(json.dumps({"annotations": records}))
    assert gathered(tmp_path / "x.json", ("annotations",)) == {"annotations": records}
