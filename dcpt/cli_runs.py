"""The commands that read runs and fit nothing: parse, call, print."""

from __future__ import annotations

import typer

from dcpt.options import Columns, Json, Table, read_mapping


def diagnose(table: Table, column: Columns = None, json: Json = False) -> None:
    """Say what the channel losses of runs mean: text, training and plan.

    A study's run folders tell more than its table: spikes between points, runs that stopped.

    Example: dcpt diagnose study.yaml (or: dcpt diagnose runs.csv --column n_params=N)
    """
    from dcpt import display, display_diagnosis, stations

    display.note_left_out(stations.left_out_runs(table))
    display.note_damaged(stations.damaged_files(table))
    found = stations.diagnose_runs(table, read_mapping(column))
    if json:
        typer.echo(display.as_json(found.as_dict()))
    else:
        display_diagnosis.show_diagnosis(display.open_console(), found)


COMMANDS = (diagnose,)
"""In the order of their help."""
