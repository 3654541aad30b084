"""The static HTML explorer: one file, or a folder with pictures, that opens from disk without a server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from t2i_track.files import write_atomically
from t2i_track.jsontext import json_text
from t2i_track.ranking import Comparison, Equivalence, ImageRow, RunRow
from t2i_track.ranking.decided import Decided
from t2i_track.ranking.describe import found_within
from t2i_track.ranking.describe_equivalence import compared, findings, heads
from t2i_track.ranking.frontier import alignment_metric
from t2i_track.ranking.protocols import MARK, alike, otherwise
from t2i_track.ranking.rows import varied
from t2i_track.report.charts import charts, labels
from t2i_track.report.embed import Lost, Picture, pictures
from t2i_track.settings import AXES

SCRIPTS = ("dom.js", "pictures.js", "summary.js", "charts.js", "grid.js", "viewer.js", "changes.js", "equivalence.js",
           "main.js")  # fmt: skip


def write_report(
    path: Path,
    comparison: Comparison,
    rows: Sequence[RunRow],
    images: Sequence[ImageRow],
    *,
    title: str | None = None,
    equivalence: Equivalence | None = None,
    decided: Decided | None = None,
) -> Path:
    """Write the explorer of a comparison.

    Args:
        path: a name that ends in ``.html`` makes one file with everything inside (large collections: previews of at
            most 256 px); any other name makes a folder with ``index.html`` and the original pictures.
        rows: the runs, ranked and excluded; only those that have images are shown in the grid.
        decided: what an adaptive sweep decided, which then stands in the place of the ranking.
        equivalence: what holding runs against a base found, which then stands before the ranking.
        images: their images. Files that are gone, unreadable or not what was recorded are shown as that.

    Returns:
        The HTML file, replaced atomically.
    """
    single = path.suffix.lower() in (".html", ".htm")
    target = path if single else path / "index.html"
    folder = None if single else path / "pictures"
    (folder or path.parent).mkdir(parents=True, exist_ok=True)
    images, left_out = alike(images)
    found = pictures(images, folder)
    name = title or _title(rows)
    data = {"title": name, "comparison": comparison.to_dict(), **_explored(comparison, rows, images, found)}
    data["comparison"]["notes"] += left_out
    data["found_within"] = found_within(comparison)
    data["equivalence"] = None if equivalence is None else _held(equivalence)
    data["decided"] = None if decided is None else _decided(decided)
    if decided is not None:
        values = {setting.run: setting.value for setting in decided.settings}
        data["runs"] = [{**run, "value": values.get(run["run"]), "mark": ""} for run in data["runs"]]
    data["charts"] = [asdict(chart) for chart in charts(comparison)]
    page = _page(name, data, _urls(images, found))
    write_atomically(target, page.encode("utf-8", errors="replace"))
    return target


def _held(found: Equivalence) -> dict[str, Any]:
    """Runs against a base as the page's scripts read them: words, and the worst prompts of each."""
    titles, cells = compared(found)
    return {
        "heads": heads(found),
        "titles": titles,
        "cells": cells,
        "findings": findings(found),
        "base": found.base.run,
        "measure": found.worst_by,
        "runs": [
            {
                "run": one.row.run,
                "worst": [{"index": item.prompt_index, "prompt": item.prompt, "change": item.change,
                           "a": item.a, "b": item.b} for item in one.worst],
            }
            for one in found.candidates
        ],
    }  # fmt: skip


def _decided(found: Decided) -> dict[str, Any]:
    """The decisions of an adaptive sweep as the page's scripts read them."""
    titles, cells = found.table()
    best = found.recommended
    return {
        "run": None if best is None else best.run,
        "by": found.by,
        "direction": found.direction,
        "titles": titles,
        "cells": cells,
        "conclusion": found.conclusion(),
        "left": [*found.notes, *found.left()],
    }


def _title(rows: Sequence[RunRow]) -> str:
    names = sorted({row.sweep or row.experiment for row in rows})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _explored(
    comparison: Comparison, rows: Sequence[RunRow], images: Sequence[ImageRow], found: Sequence[Picture | Lost]
) -> dict[str, Any]:
    """Runs, axes, prompts and images as the page's scripts read them."""
    ranks = {entry.row.run: entry for entry in comparison.ranking}
    shown = {image.run for image in images}
    order = [entry.row for entry in comparison.ranking] + [row for row in rows if row.run not in ranks]
    order = [row for row in order if row.run in shown]
    prompts = sorted({(image.prompt_index, image.replicate, image.prompt) for image in images})
    places = {prompt: place for place, prompt in enumerate(prompts)}
    names = labels(order)
    ranked = [entry.row for entry in comparison.ranking]
    second = alignment_metric(ranked, but=comparison.by)
    marked = otherwise([*ranked, *(entry.row for entry in comparison.excluded)], comparison.by)
    by_run: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for place, (image, picture) in enumerate(zip(images, found, strict=True)):
        by_run[image.run].append(_image(image, picture, places, place))
    return {
        "axes": [{"name": axis, "values": _values(order, axis)} for axis in varied(order)],
        "second": second,
        "marked": dict.fromkeys(otherwise(ranked, second) if second else (), MARK),
        "runs": [
            _run(row, names[row.run], ranks, comparison.by, MARK if row.run in marked else "")
            | _shared(by_run[row.run])
            for row in order
        ],
        "prompts": [{"index": index, "replicate": replicate, "text": text} for index, replicate, text in prompts],
        "image_metrics": sorted({name for image in images for name in image.scores}),
        "missing": sum(isinstance(picture, Lost) for picture in found),
    }


def _values(rows: Iterable[RunRow], axis: str) -> list[Any]:
    """The values of an axis in order, numbers before words, None first."""
    return sorted(
        {row.told(axis) for row in rows},
        key=lambda value: (value is not None, isinstance(value, str), 0 if value is None else value),
    )


def _run(row: RunRow, label: str, ranks: Mapping[str, Any], by: str, mark: str) -> dict[str, Any]:
    entry, score = ranks.get(row.run), row.score(by)
    return {
        "run": row.run,
        "name": row.name,
        "label": label,
        "tier": entry.tier if entry else None,
        "rank": entry.rank if entry else None,
        "value": score.value if score and score.value == score.value else None,
        "mark": mark,
        "settings": {axis: row.told(axis) for axis in AXES},
        "said": {**({"note": row.note} if row.note else {}), **{f"tag {key}": tag for key, tag in row.tags.items()}},
    }


def _image(image: ImageRow, found: Picture | Lost, places: Mapping[Any, int], number: int) -> dict[str, Any]:
    record = {key: _plain(value) for key, value in image.record.items()}
    picture = None if isinstance(found, Lost) else found
    return {
        "prompt": places[image.prompt_index, image.replicate, image.prompt],
        "picture": None if picture is None else number,
        "lost": found if isinstance(found, Lost) else None,
        "seed": image.seed,
        # A path names its run, where an id would be another image in another database.
        "address": str(image.record.get("path") or image.record.get("id") or image.path),
        "look": picture.look if picture else None,
        "width": picture.width if picture else 0,
        "height": picture.height if picture else 0,
        "scores": {name: value for name, value in image.scores.items() if value == value},
        "record": {"prompt": image.prompt, "seed": image.seed, **record},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return (
        value if isinstance(value, str | int | float | bool | None) else json.dumps(value, default=str, sort_keys=True)
    )


def _shared(images: list[dict[str, Any]]) -> dict[str, Any]:
    """Images with the part of their records that is the same in the whole run written once."""
    first = images[0]["record"] if images else {}
    same = {key: value for key, value in first.items() if all(image["record"].get(key) == value for image in images)}
    if len(images) < 2:
        same = {}
    for image in images:
        image["record"] = {key: value for key, value in image["record"].items() if key not in same}
    return {"record": same, "images": images}


def _urls(images: Sequence[ImageRow], found: Sequence[Picture | Lost]) -> dict[str, dict[int, list[str]]]:
    """For each run, picture number to its small and (where another) full URL; read by the page when first needed."""
    urls: dict[str, dict[int, list[str]]] = defaultdict(dict)
    for number, (image, picture) in enumerate(zip(images, found, strict=True)):
        if not isinstance(picture, Lost):
            urls[image.run][number] = [picture.small] + ([picture.full] if picture.full != picture.small else [])
    return urls


def _page(title: str, data: Mapping[str, Any], urls: Mapping[str, Any]) -> str:
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), "\n".join(_read(name) for name in SCRIPTS)]
    blocks = [_block("data", data), *(_block(f"pictures-{run}", part) for run, part in urls.items())]
    return Template(_read("page.html")).substitute(
        title=escape(title),
        style=_read("page.css"),
        # Only these two scripts may run, whatever a prompt holds, and nothing may be fetched from a network.
        script_hashes=" ".join(f"'sha256-{_hash(script)}'" for script in scripts),
        blocks="\n".join(blocks),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _read(name: str) -> str:
    return files("t2i_track.report").joinpath("page", name).read_text("utf-8")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _block(name: str, value: Any) -> str:
    """JSON in a block that the browser does not run; ``<`` is escaped, so that no prompt can end the block."""
    text = json_text(value, None, separators=(",", ":"))
    return f'<script type="application/json" id="{escape(name)}">{text.replace("<", chr(92) + "u003c")}</script>'
