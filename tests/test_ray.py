"""Pictures by the workers of a Ray cluster of three nodes: the same as by one process, whoever dies meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import func, select

from t2i_track.db import lineage
from t2i_track.db.models import Image, Run, RunStatus, Worker
from t2i_track.errors import ClusterError, Interrupted, ModelError, NotMade, SettingsError
from t2i_track.images.executors import Cluster, Executor, executor_of
from t2i_track.images.executors import worker as making
from t2i_track.images.executors.pool import Pool
from t2i_track.images.executors.ray import Ray, _set_secret, _use_secret
from t2i_track.runs import launch
from t2i_track.runs import sweep as sweeping
from t2i_track.runs.evaluate import score
from t2i_track.runs.generate import Generator
from t2i_track.runs.grid import build
from t2i_track.runs.plan import Plan, Summary
from t2i_track.runs.request import Request
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

pytestmark = [
    pytest.mark.slow,
    # Of Ray's own: pipes to processes that it has ended, and an API of its that it is about to drop.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
COMMON: dict[str, Any] = {"steps": 2, "batch_size": 4, "device": "cpu"}
DISTURBED = int(os.environ.get("T2I_TEST_RAY_IMAGES", "64"))
"""Images of the run in which an actor and a node die; `make soak` makes 256."""
COMPARED = ("prompt_index", "replicate", "seed", "pixels_sha256", "record_sha256", "tokens", "batch_size", "note")
"""Of a row: what must not depend on who made it."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of four nodes on this machine, one processor each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    one = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        found = cluster_utils.Cluster(initialize_head=True, head_node_args=one)
        one.pop("include_dashboard")
        found.spare = [found.add_node(**one) for _ in range(2)]
        found.add_node(num_cpus=1, object_store_memory=80 * 2**20)  # for a driver of its own
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def executor(nodes: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    with executor_of(Cluster(nodes.address, workers=3), tmp_path_factory.mktemp("cache")) as found:
        yield found


class Disturbed:
    """An executor beside whose work something happens, once, after so many of its records."""

    def __init__(self, executor: Executor, happens: dict[int, Callable[[Any], None]]) -> None:
        self._executor, self._happens, self._count = executor, happens, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def make(self, jobs: Sequence[Any], spec: Any) -> Iterator[list[Any]]:
        for records in self._executor.make(jobs, spec):
            self._count += len(records)
            for after in [after for after in self._happens if after <= self._count]:
                self._happens.pop(after)(records[0].maker)
            yield records


def plan(num: int, **settings: Any) -> Plan:
    rows = launch.open_manifest(None, [])
    return Plan(settings=Settings(**{**COMMON, "num": num, **settings}), manifest=rows, experiment="tests", fresh=True)


def made(workspace: Workspace, tracker: Tracker, executor: Any, num: int, **settings: Any) -> Summary:
    return Generator(workspace, tracker, executor).generate(plan(num, **settings))


def rows(workspace: Workspace, run: str) -> list[tuple[Any, ...]]:
    with workspace.reading() as session:
        found = lineage.find_run(session, run)
        return [tuple(getattr(image, name) for name in COMPARED) for image in found.images]


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)  # as the workers have: the number decides rounding


def kill(maker: Any) -> None:
    os.kill(maker.process, signal.SIGKILL)


def test_a_run_is_that_of_one_process_though_an_actor_and_a_node_die(
    workspace: Workspace, tracker: Tracker, tracking_uri: str, nodes: Any, executor: Executor
) -> None:
    one_thread()
    alone = made(workspace, tracker, None, DISTURBED)

    def take_a_node(_: Any) -> None:
        nodes.remove_node(nodes.spare.pop())
        nodes.spare.append(nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20))

    disturbed = Disturbed(executor, {DISTURBED // 8: kill, DISTURBED * 3 // 8: take_a_node})
    together = made(workspace, tracker, disturbed, DISTURBED)
    assert rows(workspace, together.run) == rows(workspace, alone.run)
    assert (together.images, together.made) == (DISTURBED, DISTURBED)
    with workspace.reading() as session:
        workers = session.scalars(select(Worker)).all()
        assert len(workers) >= 2
        assert {worker.environment["threads"] for worker in workers} == {1}
        query = select(Run.name, func.count()).join(Image).where(Image.worker_id.is_not(None)).group_by(Run.id)
        assert [count for _, count in session.execute(query)] == [DISTURBED]
    files = list(Path(together.folder).iterdir())
    assert sorted(file.suffix for file in files) == [".png"] * DISTURBED
    found = MlflowClient(tracking_uri).search_runs(["1"])
    assert sorted(run.info.run_id for run in found) == sorted([alone.mlflow_run_id, together.mlflow_run_id])
    assert {run.info.status for run in found} == {"FINISHED"}


def test_cells_of_a_sweep_share_the_workers(
    workspace: Workspace, tracker: Tracker, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_thread()
    values = {
        "name": "grid", "experiment": "tests", "settings": {"batch_size": 4, "device": "cpu", "num": 8},
        "axes": {"guidance": [1, 3, 7.5], "steps": [2, 3, 4]}, "evaluate": False,
    }  # fmt: skip
    experiment = build(values, "test")
    alone = sweeping.run_sweep(workspace, tracker, experiment, fresh=True, allow_pickle=False)
    disturbed = Disturbed(executor, {20: kill})

    class Given:
        def __enter__(self) -> Any:
            return disturbed

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(sweeping, "executor_of", lambda *_, **__: Given())
    together = sweeping.run_sweep(workspace, tracker, experiment, fresh=True, allow_pickle=False)
    assert [cell.state for cell in together.cells] == ["made"] * 9
    for one, other in zip(alone.cells, together.cells, strict=True):
        assert one.run is not None
        assert other.run is not None
        assert rows(workspace, other.run) == rows(workspace, one.run)
    parent = MlflowClient(tracker.uri).get_run(together.mlflow_run_id)
    children = MlflowClient(tracker.uri).search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert [child.info.status for child in children] == ["FINISHED"] * 9


def test_features_are_made_by_workers(
    workspace: Workspace, tracker: Tracker, executor: Executor, tmp_path: Path
) -> None:
    one_thread()
    run = made(workspace, tracker, None, 24)
    other = Workspace(home=workspace.home)
    (mine,) = score(workspace, tracker, [run.run], Request(reference="shapes"))
    shutil.rmtree(workspace.cache / "features")
    with workspace.begin() as session:
        for value in lineage.find_run(session, run.run).metric_values:
            session.delete(value)
    (theirs,) = score(other, tracker, [run.run], Request(reference="shapes"), executor)
    assert theirs.values() == mine.values()
    assert theirs.measured > 0


def test_ctrl_c_keeps_what_is_made(workspace: Workspace, tracker: Tracker, executor: Executor) -> None:
    one_thread()

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="what is made is kept"):
        made(workspace, tracker, Disturbed(executor, {16: interrupt}), 48)
    with workspace.reading() as session:
        (run,) = session.scalars(select(Run))
        assert run.status == RunStatus.INTERRUPTED
        before = len(run.images)
    assert 0 < before < 48
    summary = Generator(workspace, tracker, executor).resume(run.uuid)
    assert (summary.images, summary.made) == (48, 48 - before)
    assert rows(workspace, summary.run) == rows(workspace, made(workspace, tracker, None, 48).run)


def test_a_driver_that_is_killed_is_resumed(
    workspace: Workspace, tracker: Tracker, nodes: Any, executor: Executor, tmp_path: Path
) -> None:
    one_thread()
    words = ["generate", "--num", "200", "--steps", "2", "--batch-size", "4", "--device", "cpu", "--no-evaluate"]
    words += ["--experiment", "tests"]
    command = [sys.executable, "-m", "t2i_track", *words, "--address", nodes.address, "--workers", "1"]
    places = ["--home", str(workspace.home), "--tracking-uri", tracker.uri]
    driver = subprocess.Popen([*command, *places], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: len(list(workspace.home.glob("images/*/*.png"))) > 20, 120)
    finally:
        driver.kill()
        driver.wait()
    with workspace.reading() as session:
        (run,) = session.scalars(select(Run))
        before = len(run.images)
    assert before < 200
    summary = Generator(workspace, tracker, executor).resume(run.uuid)
    assert (summary.images, summary.made) == (200, 200 - before)
    alone = made(workspace, tracker, None, 200)
    assert rows(workspace, run.uuid) == rows(workspace, alone.run)
    assert len(MlflowClient(tracker.uri).search_runs(["1"])) == 2


def eventually(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_shard_that_fails_is_named_and_the_rest_is_made(
    workspace: Workspace, tracker: Tracker, executor: Executor
) -> None:
    """One file cannot be written: a folder lies in its place."""
    one_thread()

    class Blocked(Disturbed):
        def make(self, jobs: Sequence[Any], spec: Any) -> Iterator[list[Any]]:
            from t2i_track.images import png

            job = jobs[5]
            self.place = spec.folder / png.file_name(job.prompt_index, job.replicate, job.seed)
            (self.place / "full").mkdir(parents=True)
            return self._executor.make(jobs, spec)

    blocked = Blocked(executor, {})
    with pytest.raises(NotMade, match=r"^(4|8) of 32 images could not be made in 3 attempts \(prompts .* --resume"):
        made(workspace, tracker, blocked, 32)
    with workspace.reading() as session:
        (run,) = session.scalars(select(Run))
        assert run.status == RunStatus.FAILED
        assert len(run.images) in (24, 28)
    (blocked.place / "full").rmdir()
    blocked.place.rmdir()
    assert Generator(workspace, tracker, executor).resume(run.uuid).images == 32


def test_a_model_that_is_none_is_said_once(workspace: Workspace, tracker: Tracker, executor: Executor) -> None:
    with pytest.raises(SettingsError, match="is for flow models, and this one"):
        Generator(workspace, tracker, executor).prepare(plan(4, scheduler="flow-euler"))


def test_a_cluster_without_room_or_address_says_so(nodes: Any, executor: Executor, tmp_path: Path) -> None:
    from t2i_track.images.executors import ray as executing

    assert executing._room([], 0, 1) == 0
    node = {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}
    assert executing._room([node, {**node, "Alive": False}], 1, 2) == 2
    assert executing._room([node], 0.5, 2) == 4
    assert executing._room([node], 0, 3) == 2
    assert executing._share(Cluster("auto"), {"GPU": 2.0}) == (1, 2)
    assert executing._share(Cluster("auto"), {"CPU": 2.0}) == (0, 1)
    assert executing._share(Cluster("auto", gpus_per_worker=0, cpus_per_worker=4), {"GPU": 2.0}) == (0, 4)
    assert isinstance(executor, Ray)
    assert executor.workers == 3


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ClusterError, match=r"^--address auto wants Ray.*pip install 't2i-track\[ray\]'$"),
        executor_of(Cluster("auto"), tmp_path),
    ):
        pass


def test_a_worker_that_sees_no_folder_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from t2i_track.images.executors import actor

    monkeypatch.setattr(actor, "SEEN_SECONDS", 0.0)
    with pytest.raises(ClusterError, match=r"^the worker on .* does not see the run's folder .*gone: put --home"):
        actor._require_seen(tmp_path / "gone")


def told(**changes: Any) -> Any:
    from t2i_track.images.executors.actor import Made, package_sha256
    from t2i_track.images.writing import Maker

    versions = {"versions": {"t2i-track": "0.0.9"}}
    maker = Maker("node-3", 1, "cuda", versions, {"gpu": "H100", "torch": "2"})
    return Made(**{"records": [], "maker": maker, "peak_memory": 0, "package": package_sha256(), **changes})


def spec(**machine: Any) -> Any:
    return SimpleNamespace(machine={"gpu": "H100", "torch": "2", **machine})


def test_workers_that_are_unlike_are_refused_in_a_line(executor: Executor) -> None:
    assert isinstance(executor, Ray)
    executor._require_like(told(), spec())
    with pytest.raises(ClusterError, match=r"^the worker on node-3 has another t2i-track \(0.0.9, 000.*: install"):
        executor._require_like(told(package="0" * 64), spec())
    with pytest.raises(ClusterError, match=r"^the worker on node-3 has gpu H100, and the run A100: .*--mixed$"):
        executor._require_like(told(), spec(gpu="A100"))


def test_workers_of_two_kinds_may_be_allowed(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(executor, Ray)
    monkeypatch.setattr(executor, "_cluster", Cluster("auto", mixed=True))
    executor._require_like(told(), spec(gpu="A100"))


def test_other_weights_under_the_same_name_are_refused(tmp_path: Path) -> None:
    from t2i_track.images.adapters import Adapters

    loaded: Any = SimpleNamespace(weights_sha256="b" * 64, adapters=Adapters())
    run: Any = SimpleNamespace(
        weights_sha256="a" * 64, asked=Settings(model="/models/sd"), lora_files=(), embedding_files=()
    )
    with pytest.raises(ModelError, match=r"^the weights of '/models/sd' are others than those of the run .aaa"):
        making._require_same(loaded, run)
    run.weights_sha256, run.lora_files = "b" * 64, ("c" * 64,)
    with pytest.raises(ModelError, match=r"^a LoRA or embedding of '/models/sd' is another file"):
        making._require_same(loaded, run)


def test_options_of_workers_without_workers_are_refused() -> None:
    from t2i_track import api

    with pytest.raises(SettingsError, match="say how many with --workers"):
        api.generate(mixed=True)
    with pytest.raises(SettingsError, match="workers must be 1 or more, not 0"):
        api.generate(workers=0)
    with pytest.raises(SettingsError, match="gpus_per_worker must be 0 or more, not -1"):
        api.generate(workers=1, gpus_per_worker=-1)


def test_a_cluster_of_our_own_has_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one Ray runs what anybody on the network tells it to. It is read when Ray is imported."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # both are put back
    monkeypatch.setenv("RAY_AUTH_MODE", "")
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setitem(sys.modules, "ray", sys)
    _set_secret()
    assert "RAY_AUTH_MODE" not in os.environ
    monkeypatch.delitem(sys.modules, "ray")
    _set_secret()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_an_answer_may_come_under_an_equal_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray's client gives them; nobody was seen to start, so nothing was made over ``ray://``."""

    @dataclass(frozen=True)
    class Ref:
        answer: int

    def method(answer: Callable[[int], int]) -> Any:
        return SimpleNamespace(remote=lambda asked=0: Ref(answer(asked)))

    actor = SimpleNamespace(ready=method(lambda asked: asked), double=method(lambda asked: 2 * asked))
    fake = SimpleNamespace(
        wait=lambda refs, num_returns, timeout: ([Ref(ref.answer) for ref in refs], []),
        get=lambda ref: ref.answer,
        kill=lambda actor: None,
        exceptions=SimpleNamespace(RayActorError=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    pool = Pool(lambda: actor, 1)
    try:
        found = pool.results("double", [(1,), (2,), (3,)], [])
        assert sorted(next(found) for _ in range(3)) == [2, 4, 6]
    finally:
        pool.close()


@pytest.mark.parametrize(("kept", "said", "used"), [(True, "", True), (False, "", False), (True, "disabled", False)])
def test_a_client_shows_the_secret_that_there_is(
    kept: bool, said: str, used: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", said)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    if kept:
        (tmp_path / "token").write_text("secret")
    _use_secret()
    assert (os.environ["RAY_AUTH_MODE"] == "token") is used
