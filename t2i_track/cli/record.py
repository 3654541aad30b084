"""The whole record of a run or of an image, in sections for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from t2i_track.cli.ended import duration
from t2i_track.cli.output import Section, shown
from t2i_track.cli.scores import score_section
from t2i_track.cli.tables import Column
from t2i_track.ranking.rows import Score, protocol_difference, protocol_label
from t2i_track.ranking.words import bounds, number


def run_sections(record: Mapping[str, Any], files: Sequence[str]) -> list[Section]:
    """Of a run's record, and the first ``files`` of its pictures."""
    made, wanted = record["images"], record["num"] * record["images_per_prompt"]
    about = {
        "run": record["uuid"],
        "status": record["status"],
        "reason": record["error"],
        "pictures of": record["origin"],
        "experiment": record["experiment"],
        "started": record["started_at"] or record["created_at"],
        "took": _took(record["started_at"], record["ended_at"]),
        "seconds per image": record["seconds_per_image"],
        "MLflow run": record["mlflow_run_id"],
        "note": record["note"] or None,
        **{f"tag {key}": value for key, value in record["tags"].items()},
    }
    reused = f", {record['reused']} of them made by earlier runs" if record["reused"] else ""
    pictures = {"images": f"{made} of {wanted}{reused}", "folder": record["folder"]}
    left = [f"... and {made - len(files)} more"] if made > len(files) else []
    return [
        Section(record["name"], about),
        Section("Notes", lines=record["config"].get("notes", [])),
        Section("Settings", _settings(record)),
        Section("Model", _spoken(record["model"])),
        Section("Prompts", _spoken(record["manifest"])),
        _scores(record["scores"]),
        Section("Decisions", lines=[_decision(one) for one in record["decisions"]]),
        _failures(record["failures"]),
        Section("Environment", _spoken(record["environment"])),
        Section("Workers", lines=record["workers"]),
        Section("Pictures", pictures, lines=[*files, *left]),
    ]


def image_sections(record: Mapping[str, Any]) -> list[Section]:
    """Of an image's record."""
    made = dict(record["made_with"])
    about = {"run": record["run"], **{name: record[name] for name in record if name not in _ELSEWHERE}}
    labels = record["labels"]
    return [
        Section(f"image {record['id']}", _spoken(about)),
        Section("Prompt", {"prompt": made.pop("prompt"), "negative prompt": made.pop("negative_prompt", None)}),
        Section("Made with", _spoken(made)),
        _image_scores(record["scores"]),
        Section("Labels", columns=_table(labels) if labels else ()),
        _siblings(record["siblings"], record["sibling_count"]),
        Section("File", {"file": record["file"], "sha256": record["sha256"], "pixels sha256": record["pixels_sha256"]}),
        Section("Parameters", lines=record["parameters"].splitlines()),
    ]


_ELSEWHERE = {
    "id", "run", "prompt", "made_with", "parameters", "scores", "labels", "siblings", "sibling_count",
    "file", "path", "sha256", "pixels_sha256",
}  # fmt: skip


def _siblings(siblings: Sequence[Mapping[str, Any]], count: int) -> Section:
    """The same prompt and seed under other settings."""
    names = ("name", "guidance", "steps", "scheduler", "path")
    columns = [Column(name, [shown(one[name]) for one in siblings], drop=name == "scheduler") for name in names]
    left = [f"... and {count - len(siblings)} more"] if count > len(siblings) else []
    return Section("Same prompt and seed in other runs", columns=columns if siblings else (), lines=left)


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """As they were resolved, and what else decided the images."""
    found = {name: value for name, value in record["settings"].items() if name not in ("model", "revision")}
    named = ("lora_sha256", "embedding_sha256", "outdir", "negative_truncated", "negatives_truncated")
    config = {name: record["config"].get(name) or None for name in named}
    return _spoken({**found, **config, "scheduler_config": record["scheduler_config"]})


def _scores(scores: Sequence[Mapping[str, Any]]) -> Section:
    """All stored values; where a score was measured under several protocols, with the protocol of each."""
    section = score_section("Scores", scores, lead=_protocols(scores))
    return replace(section, lines=[*section.lines, *_differences(scores)])


def _decision(one: Mapping[str, Any]) -> str:
    """``out with 24 images, in sweep night: worse than the best by [0.48, 1.00] in alignment, margin 0.4``."""
    worse = f"worse than the best by {bounds(one['low'], one['high']) or number(one['estimate'])}"
    return (
        f"{one['state']} with {one['images']} images, in sweep {one['sweep']}: {worse} in {one['metric']},"
        f" margin {number(one['margin'])}"
    )


def _failures(rates: Sequence[Mapping[str, Any]]) -> Section:
    """The share of the labelled images that have each failure."""
    if not rates:
        return Section("Failures")
    columns = [
        Column("failure", [rate["failure"] for rate in rates]),
        Column("share", [number(rate["share"]) for rate in rates]),
        Column("95% interval", [bounds(rate["ci_low"], rate["ci_high"]) or "none" for rate in rates]),
        Column("images", [str(rate["k"]) for rate in rates]),
        Column("labelled", [str(rate["n"]) for rate in rates]),
    ]
    by = f"{rates[0]['people']} of the {rates[0]['n']} labelled images by people, the others by their scores (auto)"
    return Section("Failures", columns=columns, lines=[by])


def _image_scores(scores: Sequence[Mapping[str, Any]]) -> Section:
    names, values = [score["name"] for score in scores], [shown(score["value"]) for score in scores]
    columns = [*_protocols(scores), Column("score", names), Column("value", values)] if scores else []
    return Section("Scores", columns=columns, lines=_differences(scores))


def _protocols(scores: Sequence[Mapping[str, Any]]) -> list[Column]:
    """What tells values of one name apart, where there are any."""
    names = [score["name"] for score in scores]
    told = [score["protocol"]["fingerprint"][:8] for score in scores]
    return [Column("protocol", told)] if len(set(names)) < len(names) else []


def _differences(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """In what the protocols of later values of a name differ from that of its first."""
    first: dict[str, Score] = {}
    told: dict[str, str] = {}
    for score in scores:
        fields = {name: value for name, value in score["protocol"].items() if name not in ("fingerprint", "metric")}
        fingerprint = score["protocol"]["fingerprint"]
        this = Score(score["name"], score["value"], protocol=fingerprint, protocol_label=protocol_label(fields))
        other = first.setdefault(score["name"], this)
        if other is not this:
            told.setdefault(fingerprint, f"{fingerprint[:8]}: {protocol_difference(other, this)}")
    return list(told.values())


def _table(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    return [
        Column(name, [shown(row[name]) for row in rows], fold="words" if name == "note" else "") for name in rows[0]
    ]


def _spoken(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", " "): value for name, value in fields.items()}


def _took(started: datetime | None, ended: datetime | None) -> str | None:
    return None if started is None or ended is None else duration((ended - started).total_seconds())
