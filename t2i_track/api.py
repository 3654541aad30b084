"""The commands as functions: what `t2i` prints is what these return.

Every argument is named as its option is (``--images-per-prompt`` is ``images_per_prompt``), and every setting of a run
is one. Results are typed, have ``to_frame()``, and show themselves in a notebook.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from t2i_track.adapters import SEPARATOR
from t2i_track.errors import CompareError, SettingsError
from t2i_track.results import Evaluation, Forecast, SweepResult
from t2i_track.settings import DECLARED, Settings
from t2i_track.workspace import DEFAULT_HOME, Workspace

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from t2i_track.db.copying import Copied
    from t2i_track.images.executors import Cluster
    from t2i_track.ranking import Comparison, Decided, Equivalence, PairComparison
    from t2i_track.runs.export import Export
    from t2i_track.runs.imports import Import
    from t2i_track.runs.launch import Outcome
    from t2i_track.runs.reproduce import Reproduction
    from t2i_track.runs.sample_size import SweepPlan

Home = str | Path | None
F = TypeVar("F", bound=Callable[..., Any])


def _settings_named(function: F) -> F:
    """Give the function the settings as keyword arguments in its signature, in place of ``**settings``."""
    signature, defaults = inspect.signature(function), Settings().to_dict()
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    own += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name])
        for name in DECLARED
        if name not in signature.parameters
    ]

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    wrapped.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return wrapped  # type: ignore[return-value]


@_settings_named
def generate(
    *,
    manifest: str | Path | None = None,
    prompt: str | Sequence[str] = (),
    outdir: str | Path | None = None,
    mark_ai: bool = True,
    experiment: str | None = None,
    run_name: str | None = None,
    resume: str | None = None,
    fresh: bool = False,
    evaluate: bool | None = None,
    reference: str | Path | None = None,
    allow_pickle: bool = False,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    cpus_per_worker: int | None = None,
    mixed: bool = False,
    tracking_uri: str | None = None,
    home: Home = None,
    db_url: str | None = None,
    **settings: Any,
) -> Outcome:
    """Make images for every prompt of a manifest, as one tracked run, and score it where that costs next to nothing.

    Args:
        manifest: a prompt file (CSV, TSV, JSON, JSON lines, Parquet, TXT); default: the embedded captions.
        prompt: a prompt or several, instead of a manifest.
        outdir: where the run's own folder is made; default: ``images/`` in the home folder.
        mark_ai: say in each PNG, as XMP, that a model made it (IPTC's digital source type); a run that is resumed keeps
            what it began with.
        experiment: MLflow experiment; default: that of ``MLFLOW_EXPERIMENT_NAME`` or ``_ID``, else ``t2i``.
        run_name: default: scheduler, guidance, steps and seed.
        resume: address of a run of which to make what is missing; settings are then those of the run.
        fresh: make every image, also those that earlier runs have made.
        evaluate: score it; None: where the embedded reference fits, or a reference is given.
        reference: what to score against: ``shapes``, a folder, a manifest, an .npz, or ``run:RUN``.
        allow_pickle: load pickled weights, which can run code.
        address: make the pictures by the workers of a Ray cluster: ``local`` (this machine), ``auto`` (the cluster that
            it is part of), ``ray://HOST:PORT``; default: in this process.
        workers: how many, on this machine where there is no address; default: as many as there is room for.
        gpus_per_worker: default: one where there are GPUs. A part of one lets several workers share it.
        cpus_per_worker: also the threads of each; default: 2 beside a GPU, else 1.
        mixed: let workers compute on different kinds of devices; their pictures differ in rounding.
        tracking_uri: MLflow's; default: ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlflow.db``.
        home: home folder; default: ``T2I_HOME``, else ``t2i-data``.
        db_url: SQLAlchemy URL of the run database; default: ``T2I_DB_URL``, else ``t2i.db`` in the home folder.
        **settings: of the run: ``guidance``, ``steps``, ``scheduler``, ``num`` and the others of docs/experiments.md.

    Returns:
        ``summary`` (run id, folder, images, seconds), ``scored`` (None, or the scores), ``notes``, and ``unscored``
        (None, or why what was made could not be scored).

    Raises:
        t2i_track.errors.T2IError: one line with the offending value and the next step.
        t2i_track.errors.Interrupted: Ctrl-C; what is made is kept, and ``resume`` goes on.
    """
    from t2i_track.runs import launch

    return launch.generate(
        _workspace(home, db_url),
        settings=settings,
        manifest=_text(manifest),
        prompts=_listed(prompt),
        tracking_uri=tracking_uri,
        outdir=None if outdir is None else Path(outdir),
        mark_ai=mark_ai,
        experiment=experiment,
        run_name=run_name,
        resume=resume,
        fresh=fresh,
        evaluate=evaluate,
        reference=_text(reference),
        allow_pickle=allow_pickle,
        cluster=_cluster(address, workers, gpus_per_worker, cpus_per_worker, mixed),
    )


@_settings_named
def sweep(
    file: str | Path | None = None,
    *,
    zip: bool = False,
    manifest: str | Path | None = None,
    prompt: str | Sequence[str] = (),
    name: str | None = None,
    experiment: str | None = None,
    mark_ai: bool = True,
    evaluate: bool | None = None,
    reference: str | Path | None = None,
    report: str | Path | None = None,
    by: str | None = None,
    until_decided: bool = False,
    within: str | float | None = None,
    budget: str | None = None,
    max_num: int | None = None,
    search: Mapping[str, float] | None = None,
    dry_run: bool = False,
    fresh: bool = False,
    yes: bool = False,
    allow_pickle: bool = False,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    cpus_per_worker: int | None = None,
    mixed: bool = False,
    tracking_uri: str | None = None,
    home: Home = None,
    db_url: str | None = None,
    **settings: Any,
) -> SweepResult | Forecast:
    """Run a grid of settings over the same prompts and seeds, under one MLflow parent run, and compare them.

    The same call again goes on where it was stopped. Cells that earlier runs have made with the same settings are
    taken over.

    Args:
        file: an experiment file (YAML); what is given beside it replaces the file's values.
        zip: run the axes side by side instead of every combination.
        manifest, prompt, mark_ai, evaluate, reference, allow_pickle, tracking_uri, home, db_url: as for ``generate``.
        address, workers, gpus_per_worker, cpus_per_worker, mixed: as for ``generate``.
        name: of the sweep; default: the names of its axes.
        experiment: MLflow experiment; default: the file's, else as for ``generate``.
        report: also write a static HTML report here.
        by: the score that the comparison ranks by; default: as for ``compare``. Of rounds: the score that decides.
        until_decided: make images in rounds, only of settings that may still be the best (docs/adaptive.md).
        within: of rounds: how much worse than the best still counts as good: in units of the score, or ``"2%"``.
        budget: of rounds: at most so much: ``2000images``, ``90min``, ``1h``.
        max_num: of rounds: the most prompts a setting; default: all, at most 2048.
        search: of rounds: axes to refine, each with the step to stop at: ``{"guidance": 0.5}``.
        dry_run: make nothing, return what would be made and how long that would take.
        fresh: make every cell and image anew.
        yes: run a grid of more than 100 cells.
        **settings: a list of values makes an axis, a single value is held: ``guidance=[1, 3, 7.5], steps=30``.

    Returns:
        ``outcome`` (what became of each cell) and ``comparison``, or ``decided`` where images were made in rounds; with
        ``dry_run`` a forecast.

    Raises:
        t2i_track.errors.T2IError: one line with the offending value and the next step. A cell that fails does not
            stop the others: it is in ``outcome.failed``.
    """
    from t2i_track.runs import compare as comparing
    from t2i_track.runs import sweep as sweeping
    from t2i_track.tracking import Tracker

    workspace = _workspace(home, db_url)
    given: dict[str, Any] = {"name": name, "experiment": experiment, "manifest": _text(manifest), "evaluate": evaluate}
    given |= {"reference": _text(reference), "prompts": _listed(prompt) or None}
    given |= {"until_decided": until_decided or None, "budget": budget, "max_num": max_num, "search": search or None}
    given |= {"within": None if within is None else str(within)}
    given["settings"] = {key: value for key, value in settings.items() if not isinstance(value, list | tuple)}
    axes = {key: list(value) for key, value in settings.items() if isinstance(value, list | tuple)}
    grid = sweeping.experiment_from(None if file is None else Path(file), given, axes, zip, by=_metric(by))
    if dry_run:
        from t2i_track.runs.forecast import forecast, most_images

        cells, total = forecast(workspace, sweeping.placed(grid, tracking_uri))
        return Forecast(tuple(cells), tuple(grid.axes), total, most_images(grid, cells))
    sweeping.require_yes(grid, yes)
    cluster = _cluster(address, workers, gpus_per_worker, cpus_per_worker, mixed)
    with Tracker(tracking_uri, workspace.outbox) as tracker:
        outcome = sweeping.run_sweep(
            workspace, tracker, grid, fresh=fresh, allow_pickle=allow_pickle, mark_ai=mark_ai, cluster=cluster
        )
    page = None if report is None else Path(report)
    if grid.until_decided:
        decided, reason = comparing.of_rounds(workspace, outcome, report=page, tracking_uri=tracking_uri)
        return SweepResult(outcome, None, reason, decided)
    found, reason = comparing.of_sweep(workspace, outcome, by=_metric(by), report=page, tracking_uri=tracking_uri)
    return SweepResult(outcome, found, reason)


def evaluate(
    *runs: str,
    reference: str | Path | None = None,
    metrics: str | Sequence[str] | None = None,
    extractor: str | None = None,
    extractor_weights: str | Path | None = None,
    clip: str | None = None,
    resize: int | None = None,
    protocol: str | None = None,
    device: str | None = None,
    skip_bad: bool = False,
    shared_prompts: bool = False,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    cpus_per_worker: int | None = None,
    mixed: bool = False,
    tracking_uri: str | None = None,
    home: Home = None,
    db_url: str | None = None,
) -> Evaluation:
    """Score runs. What was measured before under the same protocol is not measured again.

    Args:
        *runs: addresses: an id or its prefix, a name, an MLflow run id, or ``latest``. Or folders of pictures that are
            no runs: they are measured alike, and nothing of it is stored but features.
        reference: ``shapes``, a folder, a manifest with image paths, an .npz (mu, sigma), or ``run:RUN``.
        metrics: names such as ``fid``, ``clip``; several as a list or with commas; default: all that apply.
        extractor: default: ``shapes`` for embedded captions, else ``inception-v3-compat``.
        extractor_weights: the extractor's weights, if not in their usual place.
        clip: CLIP model for clip and cmmd: a Hugging Face id or a folder.
        resize: side of the square to which all pictures are brought first, in pixels.
        protocol: a named protocol: refuse runs that do not follow it, and measure as it says.
        device: where features are made; default: cuda, else mps, else cpu.
        skip_bad: score the rest where pictures are unreadable, changed or of another size.
        shared_prompts: score the prompts that all of the runs have, and no others, so that they can be compared.
        address, workers, gpus_per_worker, cpus_per_worker, mixed: make features by workers, as for ``generate``.
        tracking_uri, home, db_url: as for ``generate``.

    Raises:
        t2i_track.errors.MetricError: nothing is stored of a run that cannot be measured.
    """
    from t2i_track.images.executors import executor_of
    from t2i_track.runs import folders
    from t2i_track.runs.evaluate import score
    from t2i_track.runs.request import Request
    from t2i_track.tracking import Tracker

    workspace = _workspace(home, db_url)
    workspace.require_changeable()
    names = metrics.split(",") if isinstance(metrics, str) else metrics
    request = Request(
        metrics=None if names is None else tuple(name.strip().replace("-", "_") for name in names),
        extractor=extractor,
        weights=None if extractor_weights is None else Path(extractor_weights),
        clip=clip,
        reference=_text(reference),
        resize=resize,
        device=device,
        skip_bad=skip_bad,
        protocol=protocol,
        shared_prompts=shared_prompts,
    )
    if folders.are_folders(workspace, runs):
        return Evaluation(tuple(folders.score(workspace, [Path(folder) for folder in runs], request)))
    cluster = _cluster(address, workers, gpus_per_worker, cpus_per_worker, mixed)
    with (
        Tracker(tracking_uri, workspace.outbox) as tracker,
        executor_of(cluster, workspace.cache) as executor,
    ):
        return Evaluation(tuple(score(workspace, tracker, runs, request, executor)))


def compare(
    *runs: str,
    experiment: str | None = None,
    sweep: str | None = None,
    where: str | None = None,
    by: str | None = None,
    within: str | float | None = None,
    equivalent_to: str | None = None,
    report: str | Path | None = None,
    picture: str | Path | None = None,
    tracking_uri: str | None = None,
    home: Home = None,
    db_url: str | None = None,
) -> Comparison | PairComparison | Equivalence | Decided:
    """Rank runs by a score, with intervals and one recommended setting; exactly two runs are compared prompt by prompt.

    With ``equivalent_to`` runs are held against that one instead (docs/equivalence.md). Of a sweep that was made in
    rounds these are its decisions, which nothing tests again (docs/adaptive.md).

    Args:
        *runs: addresses; default: all runs.
        experiment: all runs of this experiment.
        sweep: all cells of this sweep.
        where: a condition such as ``"guidance > 7 and scheduler = 'pndm'"``.
        by: the score to rank by; default: the first that can tell these runs apart (docs/compare.md).
        within: how much worse than the best still counts as good: in units of the score, or ``"2%"`` of the best
            value; default: the score's own margin (docs/compare.md).
        equivalent_to: the address of a run: is each of the others as good within a margin, worse, or undecided?
        report: also write a static HTML report here; of a sweep's runs it goes to the sweep's MLflow run too.
        picture: of exactly two runs: a PNG of the prompts that change most, side by side.
        tracking_uri, home, db_url: as for ``generate``.

    Raises:
        t2i_track.errors.CompareError: nothing can be ranked, with the reason and the next step.
    """
    from t2i_track.runs import compare as comparing

    workspace = _workspace(home, db_url)
    page = None if report is None else Path(report)
    if equivalent_to is not None:
        from t2i_track.runs.equivalence import equivalent_to as held_against

        return held_against(
            workspace, equivalent_to, runs, experiment=experiment, sweep=sweep, where=where, by=_metric(by),
            within=within, report=page, picture=None if picture is None else Path(picture),
        )  # fmt: skip
    if len(runs) == 2 and where is None:
        drawn = None if picture is None else Path(picture)
        return comparing.pair(workspace, runs[0], runs[1], within=within, report=page, picture=drawn)
    if picture is not None:
        raise CompareError("a picture is of exactly two runs: t2i compare RUN1 RUN2 --picture changes.png")
    if sweep is not None and not runs and where is None and experiment is None:
        decided = comparing.decided_by(workspace, sweep, by=_metric(by), within=within, report=page)
        if decided is not None:
            return decided
    ranked = comparing.ranking(
        workspace, runs, experiment=experiment, sweep=sweep, where=where, by=_metric(by), within=within, report=page
    )
    if page is not None and ranked.parent is not None:
        comparing.log_comparison(workspace, tracking_uri, ranked.parent, ranked.comparison, page)
    return ranked.comparison


def plan(
    *runs: str,
    detect: float | None = None,
    num: int | None = None,
    by: str | None = None,
    experiment: str | None = None,
    settings: int | None = None,
    price: float | None = None,
    watts: float | None = None,
    home: Home = None,
    db_url: str | None = None,
) -> SweepPlan:
    """How many images a run find a difference, or which difference so many find; changes nothing.

    Args:
        *runs: pilot runs, off which it is read how much scores vary; default: all finished runs.
        detect: the difference, in units of the score. num: instead of it, images a run.
        by: the score; default: the first by which the pilots can be compared.
        experiment: all runs of this experiment are pilots.
        settings: how many will be compared; default: as many as there are pilots, at least two.
        price: money an hour. watts: the machine's power.
        home, db_url: as for ``generate``.

    Raises:
        t2i_track.errors.CompareError: no pilot that can tell, or a number out of range.
    """
    from t2i_track.runs import sample_size

    return sample_size.plan(
        _workspace(home, db_url),
        detect=detect,
        num=num,
        by=_metric(by),
        runs=runs,
        experiment=experiment,
        settings=settings,
        price=price,
        watts=watts,
    )


def reproduce(
    image: str | Path,
    *,
    out: str | Path | None = None,
    model: str | Path | None = None,
    lora: str | Path | Sequence[str | Path] | None = None,
    embedding: str | Path | Sequence[str | Path] | None = None,
    vae: str | Path | None = None,
    model_config: str | Path | None = None,
    device: str | None = None,
    allow_pickle: bool = False,
    home: Home = None,
    db_url: str | None = None,
) -> Reproduction:
    """Make one image again from its record, and compare it with what it was.

    Args:
        image: a PNG of ours, or an image's id, path, or prefix of a hash in the database.
        out: write the new picture here (PNG).
        model: where the same weights are now: a folder or an id; default: where a run of the database had them, or the
            embedded ones. A model is not loaded because a PNG from elsewhere names it.
        lora: where the same LoRA is now, of several those that are elsewhere, in any order; default: as for ``model``.
        embedding: where the same textual inversion is now; default and several: as for ``lora``.
        vae: where the same VAE is now that stood in place of the model's; default: as for ``model``.
        model_config: what the model is, where ``model`` is one file.
        device: default: as recorded.
        allow_pickle, home, db_url: as for ``generate``.

    Returns:
        ``equal`` (bit-equal pixels), ``close`` (within the documented tolerance), the largest difference, and notes on
        what is not as it was.

    Raises:
        t2i_track.errors.NotFound: no such image. t2i_track.errors.ModelError: the weights are others.
    """
    from t2i_track.runs import reproduce as reproduction

    return reproduction.reproduce(
        _workspace(home, db_url),
        str(image),
        model=_text(model),
        lora=_several(lora),
        embedding=_several(embedding),
        vae=_text(vae),
        model_config=_text(model_config),
        device=device,
        out=None if out is None else Path(out),
        allow_pickle=allow_pickle,
    )


def export(
    *runs: str,
    out: str | Path,
    format: str = "parquet",
    private: bool = False,
    skip_bad: bool = False,
    home: Home = None,
    db_url: str | None = None,
) -> Export:
    """Write runs as a data set that ``datasets.load_dataset`` opens: pictures with prompts, seeds, settings, scores.

    Args:
        *runs: addresses.
        out: a folder that is not there, or is empty; it is written whole or not at all.
        format: ``parquet``, or ``imagefolder``: pictures beside a ``metadata.jsonl``.
        private: without prompts, of which the hashes stay, and without what files say of themselves.
        skip_bad: write the rest where pictures are missing or changed.
        home, db_url: as for ``generate``.

    Raises:
        t2i_track.errors.TransferError: the folder is not empty, or a picture cannot be exported.
    """
    from t2i_track.runs.export import export as write

    return write(_workspace(home, db_url), runs, Path(out), fmt=format, private=private, skip_bad=skip_bad)


def import_pictures(
    folder: str | Path,
    *,
    experiment: str | None = None,
    run_name: str | None = None,
    made_by: str | None = None,
    table: str | Path | None = None,
    copy: bool = False,
    evaluate: bool | None = None,
    reference: str | Path | None = None,
    tracking_uri: str | None = None,
    home: Home = None,
    db_url: str | None = None,
) -> Import:
    """Make runs of pictures that other programs made, one for each setting; what they do not tell is None.

    The same folder again adds nothing but what is new.

    Args:
        folder: of pictures, with what lies beside them; the folders in it too.
        experiment: MLflow experiment; default: as for ``generate``.
        run_name: of the run, or how the names of several begin; default: their settings.
        made_by: only pictures of this program: ``a1111``, ``comfyui``, …; default: all.
        table: a CSV or JSON lines file that speaks of the pictures and lies elsewhere.
        copy: copy the files into the home folder; else they are used where they lie.
        evaluate: score them; None: where the embedded reference fits, or a reference is given.
        reference: as for ``evaluate``.
        tracking_uri, home, db_url: as for ``generate``.

    Returns:
        ``runs``, how many pictures were ``imported`` and ``known``, what was ``left_out`` and why, ``scored`` and
        ``unscored`` as for ``generate``.

    Raises:
        t2i_track.errors.TransferError: nothing in the folder can be imported.
    """
    from t2i_track.runs import imports
    from t2i_track.runs.launch import experiment_name

    return imports.import_folder(
        _workspace(home, db_url),
        Path(folder),
        experiment=experiment_name(experiment, tracking_uri),
        run_name=run_name,
        fmt=made_by,
        table=None if table is None else Path(table),
        copy=copy,
        evaluate=evaluate,
        reference=_text(reference),
        tracking_uri=tracking_uri,
    )


def copy_database(to: str, *, home: Home = None, db_url: str | None = None) -> Copied:
    """Copy the run database into another, SQLite or PostgreSQL, and compare both row by row; it is only read.

    What is copied is the database as it is now, also where runs are being made. The same call goes on where one was
    stopped, and until it has ended no command takes what is there for a database. Pictures stay where they are.

    Args:
        to: an SQLAlchemy URL of a database that is not there yet, or empty.
        home, db_url: of the database that is copied, as for ``generate``.

    Returns:
        ``tables``: of each its rows and a hash over them, equal on both sides; and ``notes``.

    Raises:
        t2i_track.errors.DatabaseError: there are other rows, or it cannot take some. t2i_track.errors.Busy: another
            process is copying there.
    """
    from t2i_track.db.copying import copy

    return copy(_workspace(home, db_url).url, to)


def open_database(home: Home = None, *, db_url: str | None = None) -> Session:
    """A SQLAlchemy session on the run database that can only read; the tables are in ``t2i_track.db.models``.

    Args:
        home: the home folder; default: ``T2I_HOME``, else ``t2i-data``.
        db_url: an SQLAlchemy URL, instead of the database in the home folder; default: ``T2I_DB_URL``.

    Returns:
        A session, to be used as a context manager. Whatever would write is refused by the database engine.

    Raises:
        t2i_track.errors.DatabaseError: there is no database, or its schema is another version's.
    """
    from t2i_track.db.session import LineageSession, read_engine

    return LineageSession(read_engine(_workspace(home, db_url).url))


def _workspace(home: Home, db_url: str | None) -> Workspace:
    folder = Path(home or os.environ.get("T2I_HOME") or DEFAULT_HOME)
    # A home that is named means its own database, whatever the environment says.
    url = db_url or (None if home is not None else os.environ.get("T2I_DB_URL"))
    return Workspace(home=folder, db_url=url or None)


def _cluster(
    address: str | None, workers: int | None, gpus: float | None, cpus: int | None, mixed: bool
) -> Cluster | None:
    """The workers that were asked for; None: none but this process."""
    from t2i_track.images.executors import LOCAL, Cluster

    if address is None and workers is None:
        if gpus is not None or cpus is not None or mixed:
            raise SettingsError(
                "gpus_per_worker, cpus_per_worker and mixed are of workers: say how many with --workers, or where with"
                " --address"
            )
        return None
    for name, number in (("workers", workers), ("cpus_per_worker", cpus)):
        if number is not None and number < 1:
            raise SettingsError(f"{name} must be 1 or more, not {number}")
    if gpus is not None and gpus < 0:
        raise SettingsError(f"gpus_per_worker must be 0 or more, not {gpus:g}")
    return Cluster(address or LOCAL, workers, gpus, cpus, mixed)


def _metric(by: str | None) -> str | None:
    return by.replace("-", "_") if by else None


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _several(places: str | Path | Sequence[str | Path] | None) -> str | None:
    """As a setting of several: joined."""
    return _text(places) if places is None or isinstance(places, str | Path) else SEPARATOR.join(map(str, places))


def _listed(prompt: str | Sequence[str]) -> list[str]:
    return [prompt] if isinstance(prompt, str) else list(prompt)
