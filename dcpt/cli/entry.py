"""The ``dcpt`` command: its subcommands, and how it ends. Programs get ``--json``.

Exit codes: 0 done, 1 a run failed or is cancelled, 2 bad input (one sentence and a remedy, no
traceback).
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer

from dcpt.cli.answer_commands import predict, recommend, report
from dcpt.cli.evaluate_command import evaluate
from dcpt.cli.export_command import export
from dcpt.cli.fit_commands import compare, diagnose, fit, laws, runs
from dcpt.cli.import_command import import_
from dcpt.cli.push_command import push
from dcpt.cli.refine_commands import next_runs, refine
from dcpt.cli.run_commands import cancel, logs, train_run
from dcpt.cli.size_command import size
from dcpt.cli.study_commands import demo, init, prepare, run_grid, status, verify
from dcpt.cli.watch_command import watch
from dcpt.errors import InputError, Stopped
from dcpt.names import escape_controls
from dcpt.processes import STOP_SIGNALS

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from dcpt import __version__

        typer.echo(f"dcpt {__version__}")
        raise typer.Exit


@app.callback()
def dcpt(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """How much domain text goes into a continual pre-training run? Train small, fit, decide."""


def main() -> None:
    """Run the command; bad input ends with one sentence and exit code 2."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in handlers.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)
    try:
        app()
    except Stopped as stop:
        with suppress(OSError):  # after SIGHUP the terminal may be gone
            print(f"dcpt: {stop}", file=sys.stderr)
        sys.exit(stop.exit_code)
    except InputError as error:
        for problem in error.problems:
            print(f"dcpt: {problem}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        remedy = "fix this and rerun the command"
        sentence = f"{place}{error.strerror or error}; {remedy}"
        print(f"dcpt: {escape_controls(sentence)}", file=sys.stderr)
        sys.exit(2)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    """Stop a command that has nothing to save; a second signal kills it."""
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(number, "stopped")


COMMANDS = (
    init,
    prepare,
    evaluate,
    run_grid,
    train_run,
    status,
    logs,
    cancel,
    import_,
    runs,
    laws,
    compare,
    fit,
    predict,
    recommend,
    size,
    report,
    export,
    push,
    diagnose,
    next_runs,
    verify,
    refine,
    watch,
    demo,
)
"""The commands in the order of ``--help``."""

for command in COMMANDS:
    app.command(command.__name__.strip("_").replace("_", "-"))(command)
