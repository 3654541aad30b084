"""A real Slurm on this one machine: munged, slurmctld and a slurmd for each of several nodes, over the loopback.

    apt-get install --no-install-recommends slurm-wlm munge
    python -m benchmarks.slurm.cluster --nodes 3 -- sbatch --wait --wrap hostname

Runs the command with ``SLURM_CONF`` set and takes the cluster down when it has ended. Keys, sockets, state and logs are
files of one folder; nothing in /etc is read or changed. Needs no root: jobs run as whoever starts it.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PARTITION = "trial"
REQUEUE_SECONDS = 10
"""After which Slurm starts a requeued job, 120 by default: its steps would be refused before."""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")

# Nodes are told apart by their ports. Without cgroups nothing keeps a task to its CPUs, and a node may claim to have
# more than there are; what counts here is who is started, signalled and requeued when.
CONF = """\
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
FirstJobId={port}
KillWait=10
MpiDefault=none
PartitionName={partition} Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} State=UNKNOWN\n"


def wait_for(what: str, true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Ask until it is so.

    Raises:
        TimeoutError: it is not so after that many seconds.
    """
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} took more than {seconds:g} s")
        time.sleep(0.2)


def free_ports(number: int) -> list[int]:
    """Ports on which nothing listens; all are held until the last is found, so that none comes twice."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@contextlib.contextmanager
def cluster(folder: Path, nodes: int = 3, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Such a cluster, its files in an empty folder.

    Yields:
        The environment in which Slurm's commands speak with it.

    Raises:
        SystemExit: a program of Slurm is not installed. TimeoutError: it does not come up.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        sys.exit(f"no {missing[0]} here: apt-get install --no-install-recommends slurm-wlm munge")
    folder.chmod(0o755)  # munged refuses a folder that others cannot enter
    names = _written(folder, nodes, cpus)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def asked(*command: str) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.stdout

    with contextlib.ExitStack() as running:
        started: list[subprocess.Popen[bytes]] = []

        def start(*command: str) -> None:
            log = running.enter_context((folder / f"{command[0]}.out").open("ab"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            started.append(process)
            running.callback(_stop, process)

        def up(true: bool) -> bool:
            for process in started:
                if process.poll() is not None:
                    name = str(process.args[0])  # type: ignore[index]
                    sys.exit(f"{name} ended: {(folder / f'{name}.out').read_text()[-500:]}")
            return true

        munge = {name: folder / f"munge.{name}" for name in ("key", "socket", "pid", "log", "seed")}
        # --force: a folder below the system's temporary one, which everybody may write to, is good enough here.
        options = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        start("munged", "-F", "--force", *(f"--{option}={munge[name]}" for option, name in options.items()))
        wait_for("munged's start", lambda: up(munge["socket"].exists()))
        start("slurmctld", "-D")
        for name in names:
            (folder / f"spool-{name}").mkdir()
            start("slurmd", "-D", "-N", name)
        wait_for("the nodes' start", lambda: up(asked("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * nodes))
        try:
            yield environment
        finally:
            asked("scancel", "--user", getpass.getuser())
            with contextlib.suppress(TimeoutError):
                wait_for("the end of all jobs", lambda: not asked("squeue", "-h").strip())


def _written(folder: Path, nodes: int, cpus: int) -> list[str]:
    """The names of the nodes, once the configuration is in the folder."""
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    (folder / "state").mkdir()
    port, *ports = free_ports(nodes + 1)
    # Slurm's own word for this machine, without its domain.
    known = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "folder": folder}
    text = CONF.format(port=port, requeue=REQUEUE_SECONDS, partition=PARTITION, **known)
    names = [f"node{number}" for number in range(1, nodes + 1)]
    text += "".join(
        NODE.format(name=name, port=own, cpus=cpus, **known) for name, own in zip(names, ports, strict=True)
    )
    (folder / "slurm.conf").write_text(text)
    return names


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2, help="of each node; more than there are is allowed")
    parser.add_argument("command", nargs="+", help="what is run there")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the cluster is taken down
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, cluster(Path(folder), args.nodes, args.cpus) as slurm:
        sys.exit(subprocess.run(args.command, env=slurm, check=False).returncode)


if __name__ == "__main__":
    main()
