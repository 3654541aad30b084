"""A process that has imported what takes seconds to import, and starts `t2i` by forking itself.

It reads a request a line (JSON: arguments, cwd, env, out, err) and answers each with the exit code. It has started no
thread and run no tensor operation, so that a child has nothing to inherit but modules; a child ends as a process of
its own does, its exit functions included. A request may have its child stopped: at a moment of the program (stop, see
``faults/stopping.py``) or by the clock (blows: pairs of seconds to wait and a signal's name).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from typing import Any

WARM = (
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracking",
    "pandas",
    "pyarrow",
    "scipy.linalg",
    "scipy.stats",
    "t2i_track.cli",
    "torch_fidelity",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.processing_clip",
)


def main() -> None:
    for name in WARM:
        importlib.import_module(name)
    # A shell starts what it puts into the background with Ctrl-C ignored, `nohup` with a closed terminal, and a program
    # passes that on to those that it starts: here both have to arrive.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    threads = [thread.name for thread in threading.enumerate()]
    print(json.dumps({"threads": threads}), flush=True)
    while line := sys.stdin.readline():
        child = os.fork()
        request = json.loads(line)
        if child == 0:
            start(request)
        for seconds, name in request.get("blows", ()):
            time.sleep(seconds)
            os.kill(child, signal.Signals[name])  # one that has ended keeps its number until it is waited for
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def start(request: dict[str, Any]) -> None:
    """Become the program: raises SystemExit, which ends this process."""
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        os.dup2(os.open(path, flags), descriptor)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["t2i", *request["arguments"]]
    if "stop" in request:
        from faults.stopping import arm

        arm(**request["stop"])
    from t2i_track.cli import run

    run()


if __name__ == "__main__":
    main()
