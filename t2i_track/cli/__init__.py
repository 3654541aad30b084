"""The `t2i` command. Commands parse, call one function and print; errors become one line here and nowhere else."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import io
import os
import signal
import sys
from typing import Any, NoReturn

import click

from t2i_track.errors import T2IError
from t2i_track.urls import hidden

COLLECT_EVERY = 200_000
"""New objects between two passes of the garbage collector. The libraries are a million objects that live to the end:
at Python's 700, passes over them take a third of the import of torch, diffusers and mlflow. A thousand stored runs are
many objects too: at 50,000, passes took a twentieth of comparing them."""

# Command -> where it is; a module is imported when its command is run or listed, and none imports torch or mlflow.
_COMMANDS = {
    "data": "data",
    "generate": "generate",
    "sweep": "sweep",
    "import": "imports",
    "evaluate": "evaluate",
    "gate": "evaluate",
    "compare": "compare",
    "plan": "plan",
    "runs": "runs",
    "show": "runs",
    "find": "find",
    "label": "label",
    "reproduce": "reproduce",
    "export": "export",
    "verify": "verify",
    "audit": "audit",
    "seal": "audit",
    "tag": "words",
    "note": "words",
    "rename": "words",
    "delete": "trash",
    "gc": "trash",
    "resync": "tracking",
    "ui": "tracking",
    "db": "db",
    "cache": "cache",
    "doctor": "doctor",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"t2i_track.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, "import_" if cmd_name == "import" else cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from t2i_track.settings import suggestion

            raise click.UsageError(f"no command '{args[0]}'{suggestion(args[0], tuple(_COMMANDS))}", ctx) from None


def _dashes(token: str) -> str:
    """Old command lines wrote --out_csv and --min_len."""
    return token.replace("_", "-")


@click.group(
    cls=LazyGroup,
    context_settings={
        "auto_envvar_prefix": "T2I",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "show_default": True,
        "token_normalize_func": _dashes,
    },
)
@click.version_option(package_name="t2i-track", prog_name="t2i")
def cli() -> None:
    """A laboratory notebook for text-to-image models.

    Runs guided diffusion experiments, keeps every image accountable, measures the images, and says which settings
    are better and how sure that is.

    \b
      t2i generate --guidance 12 --num 64        one tracked run of the embedded model
      t2i sweep --guidance 3,7.5,12 --num 64     a grid of runs over the same prompts and seeds
      t2i compare                                rank them, with error bars
    """


def run() -> NoReturn:
    """`main` as a process of its own."""
    gc.set_threshold(COLLECT_EVERY)
    _end_in_order()
    status: list[int] = []
    # Registered first, so called last: when threads have ended and everybody's exit functions have run.
    atexit.register(_end, status)
    try:
        main()
    except SystemExit as stop:
        status.append(stop.code if isinstance(stop.code, int) else 1)
        raise
    except KeyboardInterrupt:  # a second one, while the first was being told
        status.append(1)
        raise SystemExit(1) from None
    finally:
        # All is said and done: what comes now ends the process as it stands, instead of as a traceback.
        for number in _ending_signals():
            if signal.getsignal(number) == signal.default_int_handler:
                signal.signal(number, signal.SIG_DFL)


def _end_in_order() -> None:
    """Let what stops a program from outside do as Ctrl-C does: what was begun is marked, sent and closed.

    Slurm and other supervisors stop a job with SIGTERM, and a terminal that is closed sends SIGHUP, unless `nohup` says
    that it is to be ignored.
    """
    for number in _ending_signals():
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _ending_signals() -> list[signal.Signals]:
    return [number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGHUP")]


def _end(status: list[int]) -> None:
    """Leave the memory to the system. Python would first look at each of those objects, for up to three seconds."""
    if not status:  # a traceback (T2I_DEBUG)
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    os._exit(status[0])


def main() -> NoReturn:
    """Run the command line; exit 0, 1 with one line, or 2 for a wrong command line."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        _leave(stop.exit_code)
    except click.ClickException as error:
        from t2i_track.texts import harmless

        told = io.StringIO()
        error.show(told)
        click.echo(harmless(hidden(told.getvalue())), err=True, nl=False)
        _leave(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("stopped")
    except T2IError as error:
        _fail(" ".join(str(error).split()))
    except BrokenPipeError:
        # `t2i runs | head`: the reader has what it wants.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(0)
    except Exception as error:
        if os.environ.get("T2I_DEBUG"):
            raise
        _fail(f"{_what(error)}; T2I_DEBUG=1 shows where")
    _leave(0)


def _what(error: Exception) -> str:
    if type(error).__name__ == "OutOfMemoryError":
        return "the GPU is out of memory: try a smaller --batch-size, or --dtype fp16"
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full ({text}): make room there, then run the same command again"
    return f"unexpected {type(error).__name__}: {text[:300]}"


def _fail(message: str) -> NoReturn:
    from t2i_track.texts import clean

    click.echo(f"t2i: {clean(hidden(message))}", err=True)
    _leave(1)


def _leave(code: int) -> NoReturn:
    raise SystemExit(code)


__all__: list[Any] = ["cli", "main", "run"]
