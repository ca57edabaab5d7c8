"""Part ``tables`` of ``fuzz.py``: mutated runs tables through the check."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from fuzz_cases import (
    ODD_NAMES,
    ODD_NUMBERS,
    Outcome,
    damage_bytes,
    has_control,
    note_about,
    random_of,
)

NUMBERS = [
    "n_tokens",
    "n_params",
    "n_params_non_embedding",
    "ratio",
    "learning_rate",
    "branch_n_tokens",
    "batch_tokens",
    "warmup_tokens",
    "base_peak_learning_rate",
    "base_n_tokens",
    "seed",
    "lr_area",
    "anneal_area",
]
FAMILIES = ("loss_", "se_", "base_loss_", "share_", "unique_tokens_", "train_loss_", "weight_")


@dataclass
class Cells:
    """The cells of a CSV table, as text."""

    header: list[str]
    rows: list[list[str]]

    def as_csv(self, separator: str = ",") -> str:
        """Format the cells as CSV."""
        out = io.StringIO()
        frame = pd.DataFrame(self.rows, columns=self.header, dtype=object)
        frame.to_csv(out, index=False, sep=separator, lineterminator="\n")
        return out.getvalue()


# --------------------------------------------------------------------------------- sound tables
def sound_table(rng: Random, sizes: Sequence[int]) -> Cells:
    """Make a small valid table, of bundled runs or synthetic runs."""
    import dcpt

    name = rng.choice(["code", "code_lr", "zh_annealed", "made", "made"])
    if name == "made":
        return _made_table(rng, sizes)
    frame = dcpt.bundled_runs(name)
    runs = sorted(set(frame["run"]))
    frame = frame[frame["run"].isin(rng.sample(runs, min(len(runs), 8)))]
    text = io.StringIO(frame.to_csv(index=False))
    read = pd.read_csv(text, dtype=str, keep_default_na=False)
    return Cells(list(read.columns), read.to_numpy().tolist())


def _made_table(rng: Random, sizes: Sequence[int]) -> Cells:
    """Make runs of some sizes at three shares, with noise and one to three general channels."""
    names = ["general", "domain"] if rng.random() < 0.6 else ["en", "zh", "code_text", "domain"]
    weights = [name for name in names if name != "domain"] if len(names) > 2 else []
    header = ["run", "n_params", "n_tokens", "ratio", "learning_rate", "phase", "base"]
    header += [f"loss_{name}" for name in names] + [f"weight_{name}" for name in weights]
    rows = []
    for size in sizes:
        for ratio in (0.25, 0.5, 0.75):
            for tokens in (0, 1_000_000, 2_000_000, 4_000_000, 8_000_000):
                phase = "constant" if tokens else "base"
                row = [f"{size}-{ratio}", size, tokens, ratio, 1e-3, phase, f"base{size}"]
                for name in names:
                    share = ratio if name == "domain" else 1 - ratio
                    fall = math.log1p(tokens * share / 1e6) * 0.3 + rng.gauss(0, 0.002)
                    rise = 0 if name == "domain" else 0.1 * ratio * math.log1p(tokens / 1e6)
                    row.append(round(4 - 0.1 * math.log(size) / 10 - fall + rise, 5))
                rows.append([str(cell) for cell in [*row, *([0.5] * len(weights))]])
    return Cells(header, rows)


# --------------------------------------------------------------------------------- mutations
def _cell(table: Cells, rng: Random) -> str:
    if not table.rows:
        return "no rows, so no cell"
    row, column = rng.randrange(len(table.rows)), rng.randrange(len(table.header))
    table.rows[row][column] = rng.choice([*ODD_NUMBERS, *ODD_NAMES])
    return f"row {row} of {table.header[column]} is {table.rows[row][column]!r:.60}"


def _whole_column(table: Cells, rng: Random) -> str:
    column, value = rng.randrange(len(table.header)), rng.choice([*ODD_NUMBERS, *ODD_NAMES])
    for row in table.rows:
        row[column] = value
    return f"every {table.header[column]} is {value!r:.60}"


def _scaled(table: Cells, rng: Random) -> str:
    """Scale a column to another unit, or to extreme values."""
    names = [at for at, name in enumerate(table.header) if _is_number(name, table.header)]
    if not names:
        return "no column of numbers"
    column, scale = rng.choice(names), rng.choice([1e-12, 1e-3, 100, 1e6, 1e15, -1])
    for row in table.rows:
        try:
            row[column] = repr(float(row[column]) * scale)
        except ValueError:
            continue
    return f"{table.header[column]} times {scale:g}"


def _renamed(table: Cells, rng: Random) -> str:
    column, name = rng.randrange(len(table.header)), rng.choice([*ODD_NAMES, *table.header])
    old, table.header[column] = table.header[column], name
    return f"column {old} is called {name!r:.60}"


def rename_channel(table: Cells, rng: Random) -> str:
    """Give a channel a hostile name in all its columns."""
    channels = [name[5:] for name in table.header if name.startswith("loss_")]
    if not channels:
        return "no channel"
    old, name = rng.choice(channels), rng.choice(ODD_NAMES)
    table.header = [
        head.removesuffix(old) + name if head.endswith(f"_{old}") else head for head in table.header
    ]
    return f"channel {old} is called {name!r:.60}"


def rename_run(table: Cells, rng: Random) -> str:
    """Give one run, base or size a hostile name in all its rows."""
    columns = [at for at, name in enumerate(table.header) if name in ("run", "base", "size")]
    if not columns or not table.rows:
        return "no run"
    column, name = rng.choice(columns), rng.choice(ODD_NAMES)
    old = rng.choice(table.rows)[column]
    for row in table.rows:
        row[column] = name if row[column] == old else row[column]
    return f"{table.header[column]} {old!r:.40} is called {name!r:.60}"


def _drop_column(table: Cells, rng: Random) -> str:
    column = rng.randrange(len(table.header))
    name = table.header[column]
    if len(table.header) > 1:
        del table.header[column]
        for row in table.rows:
            del row[column]
    return f"without {name}"


def _double_column(table: Cells, rng: Random) -> str:
    column = rng.randrange(len(table.header))
    table.header.append(table.header[column])
    for row in table.rows:
        row.append(row[column])
    return f"{table.header[column]} twice"


def _swap_columns(table: Cells, rng: Random) -> str:
    left, right = rng.randrange(len(table.header)), rng.randrange(len(table.header))
    header = table.header
    header[left], header[right] = header[right], header[left]
    return f"{header[left]} and {header[right]} swapped in the header"


def _drop_rows(table: Cells, rng: Random) -> str:
    kept = rng.choice([0, 1, 2, len(table.rows) // 2])
    table.rows = rng.sample(table.rows, min(kept, len(table.rows)))
    return f"{len(table.rows)} rows kept"


def _double_row(table: Cells, rng: Random) -> str:
    if not table.rows:
        return "no row to double"
    row = rng.randrange(len(table.rows))
    table.rows.insert(rng.randrange(len(table.rows)), list(table.rows[row]))
    return f"row {row} twice"


def _shuffled(table: Cells, rng: Random) -> str:
    rng.shuffle(table.rows)
    return "rows in random order"


def _added_column(table: Cells, rng: Random) -> str:
    name = rng.choice([f"{family}{rng.choice(ODD_NAMES)}" for family in FAMILIES] + ["excluded"])
    value = rng.choice([*ODD_NUMBERS, *ODD_NAMES, "0.5", "3"])
    table.header.append(name)
    for row in table.rows:
        row.append(value)
    return f"a column {name!r:.60} of {value!r:.40}"


Mutation = Callable[[Cells, Random], str]
MUTATIONS: tuple[Mutation, ...] = (
    _cell,
    _cell,
    _cell,
    _whole_column,
    _scaled,
    _renamed,
    rename_channel,
    rename_run,
    _drop_column,
    _double_column,
    _swap_columns,
    _drop_rows,
    _double_row,
    _shuffled,
    _added_column,
)
PASSING: tuple[Mutation, ...] = (
    rename_channel,
    rename_channel,
    rename_run,
    _scaled,
    _drop_column,
    _drop_rows,
    _double_row,
    _shuffled,
    _added_column,
    _whole_column,
    _cell,
)
"""Mutations after which a table often still passes the check."""


def mutated(
    rng: Random,
    mutations: tuple[Mutation, ...] = MUTATIONS,
    sizes: Sequence[int] = (1_000_000, 4_000_000),
) -> tuple[Cells, str]:
    """Make a table with one to three mutations, and their description."""
    table = sound_table(rng, sizes)
    count = rng.choice([1, 1, 1, 2, 3])
    return table, "; ".join(rng.choice(mutations)(table, rng) for _ in range(count))


# --------------------------------------------------------------------------------- the check
def _csv(table: Cells, path: Path, rng: Random) -> str:
    path.write_bytes(table.as_csv().encode("utf-8", "surrogatepass"))
    return ""


def _other_separator(table: Cells, path: Path, rng: Random) -> str:
    separator = rng.choice(";\t|")
    path.write_text(table.as_csv(separator), encoding="utf-8")
    return f"; separated by {separator!r}"


def _damaged(table: Cells, path: Path, rng: Random) -> str:
    content, how = damage_bytes(table.as_csv().encode("utf-8", "replace"), rng)
    path.write_bytes(content)
    return f"; {how}"


def _as_frame(table: Cells) -> pd.DataFrame:
    """Convert the columns that are numeric to numbers."""
    frame = pd.DataFrame(table.rows, columns=table.header, dtype=object)
    columns: list[Any] = []
    for at in range(frame.shape[1]):
        column = frame.iloc[:, at]
        try:
            columns.append(pd.to_numeric(column))
        except (ValueError, TypeError, OverflowError):
            columns.append(column)
    return pd.concat(columns, axis=1) if columns else frame


def _parquet(table: Cells, path: Path, rng: Random) -> str:
    try:
        _as_frame(table).to_parquet(path, index=False)
    except (ValueError, OverflowError):  # Parquet has no duplicate columns and no such integers.
        path.write_bytes(b"PAR1")
    if rng.random() < 0.5:
        return ""
    content, how = damage_bytes(path.read_bytes(), rng)
    path.write_bytes(content)
    return f"; parquet {how}"


FORMS = {"csv": _csv, "separator": _other_separator, "bytes": _damaged, "parquet": _parquet}


def check_table(number: int, folder: Path, seed: int) -> Outcome:
    """Load a mutated table by ``dcpt.load_runs``, from a file or a frame."""
    import dcpt

    warnings.simplefilter("ignore")
    rng = random_of(seed, "tables", number)
    table, about = mutated(rng)
    form = rng.choice(["csv", "csv", "frame", "parquet", "bytes", "separator"])
    source: Any = folder / ("runs.parquet" if form == "parquet" else "runs.csv")
    if form == "frame":
        source = _as_frame(table)
    else:
        about += FORMS[form](table, source, rng)
    about = f"{form}: {about}"
    note_about(folder.parent, about)
    try:
        clean = dcpt.load_runs(source)
    except dcpt.InputError as refused:
        place = "the frame" if form == "frame" else source.name
        lost = [words for words in refused.problems if place not in words]
        wild = [words for words in refused.problems if has_control(words)]
        kind = "unnamed" if lost else "unescaped" if wild else "named"
        return Outcome(kind, about, repr((lost or wild or refused.problems)[0]))
    lost_number = find_lost_number(table, clean) if form in ("csv", "frame") else None
    if lost_number is None:
        lost_number = find_lost_round_trip(clean, folder)
    return Outcome("silent" if lost_number else "equal", about, lost_number or "")


def find_lost_number(table: Cells, clean: pd.DataFrame) -> str | None:
    """Find a number of the table that the check changed or dropped without a message."""
    if len(clean) != len(table.rows):
        return f"{len(table.rows)} rows became {len(clean)}"
    for at, name in enumerate(table.header):
        if not _is_number(name, table.header) or name.strip() not in clean:
            continue
        for row, cell in enumerate(table.rows):
            try:
                wanted = float(cell[at]) if cell[at].strip() else math.nan
                found = float(clean[name.strip()].iloc[row])
            except (ValueError, TypeError):
                continue
            if wanted != found and not (math.isnan(wanted) and math.isnan(found)):
                return f"row {row}, column {name}: {cell[at]!r} became {found!r}"
    return None


def find_lost_round_trip(clean: pd.DataFrame, folder: Path) -> str | None:
    """Find a difference after a valid table is written and read again."""
    import dcpt
    from dcpt.table import write_runs

    path = folder / "again.csv"
    write_runs(clean, path)
    try:
        again = dcpt.load_runs(path)
    except dcpt.InputError as refused:
        return f"its own CSV is refused: {refused.problems[0]!r}"
    for name in clean.columns:
        if _is_number(str(name), clean.columns) and not _same(clean[name], again.get(name)):
            return f"column {name} differs after writing and reading"
        if name in ("run", "base", "size") and list(clean[name]) != list(again[name]):
            missing = clean[name].isna().to_numpy() & again[name].isna().to_numpy()
            if not ((clean[name] == again[name]).to_numpy() | missing).all():
                return f"column {name} differs after writing and reading"
    return None


def _same(left: pd.Series, right: Any) -> bool:
    return right is not None and left.astype(object).equals(right.astype(object))


def _is_number(name: str, names: Iterable[str]) -> bool:
    """Whether a column has numbers; ``weight_x`` without a channel ``x`` belongs to the user."""
    channels = {str(other)[5:] for other in names if str(other).startswith("loss_")}
    family = next((family for family in FAMILIES if name.startswith(family)), name)
    return name in NUMBERS or name.removeprefix(family) in channels - {""}
