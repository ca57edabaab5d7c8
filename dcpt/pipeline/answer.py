"""From runs to an answer: the table, diagnosis, fit, recommendation and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from dcpt.atomic_files import make_room
from dcpt.errors import InputError
from dcpt.limit import NO_LIMIT, Limit
from dcpt.own_folders import check_files, claim_files, record_files
from dcpt.pipeline.bases import check_fit, hash_section, study_target
from dcpt.pipeline.workspace import Place, Workspace, fit_folder
from dcpt.quantities import format_count

if TYPE_CHECKING:
    import pandas as pd

    from dcpt.decide.records import Recommendation, Target, Verification
    from dcpt.diagnosis import Diagnosis
    from dcpt.laws import Fit, Law
    from dcpt.table.schedules import Schedule

FIT_FILES = ("runs.csv", "fit.json", "draws.npz")
"""What a fit writes into its folder."""


def collect_runs(place: Place, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The runs table of a study, or of a CSV or parquet file from any trainer."""
    import pandas as pd

    from dcpt.table import check_runs, load_runs

    if not isinstance(place, Workspace):
        return load_runs(place, columns or {})
    folder, rows = place.folder.runs, place.rows.rows
    if not rows:
        raise InputError(f"{folder} holds no points yet; train with `dcpt run-grid {place}`")
    return check_runs(pd.DataFrame(rows), str(folder))


def set_aside(runs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The table without some columns, such as a learning rate that was tuned for every run.

    Raises:
        InputError: If a name is not a column, or every fit needs it.
    """
    needed = {"run", "n_tokens"}
    problems = [
        f"--without {name}: "
        + ("every fit needs this column" if name in needed else "the table has no such column")
        + f"; the columns are {', '.join(map(str, runs.columns))}"
        for name in names
        if name in needed or name not in runs
    ]
    if problems:
        raise InputError(problems)
    return runs.drop(columns=list(names))


def diagnose_runs(place: Place, columns: Mapping[str, str] | None = None) -> Diagnosis:
    """What the channel losses of a study's runs, or of a table's, say.

    Of a study the run folders are read as well: lines about training, and runs that stopped.
    """
    from dcpt.diagnosis import diagnose, read_journals

    runs = collect_runs(place, columns)
    if not isinstance(place, Workspace):
        return diagnose(runs)
    asked = {run.identity_hash for run in place.planned}
    return diagnose(runs, read_journals(place.stored, asked), place.near_copies)


class FitOptions(TypedDict, total=False):
    """Options of :func:`dcpt.laws.fit`."""

    law: str | Law | Sequence[str | Law]
    channels: Sequence[str] | None
    n_draws: int
    seed: int
    fixed: Mapping[str, float] | None
    bounds: Mapping[str, tuple[float, float]] | None
    delta: float
    schedules: Mapping[str, Schedule] | None
    size_column: str | None


OF_ANY_SIZE = (
    *("n_tokens", "limit", "channel_limits", "weights", "confidence", "learning_rate"),
    "unique_tokens",
)
"""Fields of a study's target that hold for a target of another size too."""


class LimitFields(TypedDict, total=False):
    """Limits of a target; where one of them is given, both replace those of the study."""

    limit: Limit | str | float | None
    channel_limits: Mapping[str, Limit]


class TargetFields(LimitFields, total=False):
    """Fields of :class:`dcpt.decide.records.Target`; None is not given."""

    n_params: float | None
    n_tokens: float | None
    confidence: float | None
    base_losses: Mapping[str, float] | None
    base_peak_learning_rate: float | None
    base_n_tokens: float | None
    warmup_tokens: float | None
    learning_rate: float | None
    schedule: str | None
    unique_tokens: Mapping[str, float]
    mix: Mapping[str, float] | None
    weights: Mapping[str, float] | None


def fit_runs(runs: pd.DataFrame, folder: Path | None, **how: Unpack[FitOptions]) -> Fit:
    """Fit the laws to a runs table, and write the fit and its table if a folder is given.

    Args:
        runs: The table, as :func:`collect_runs` gives it.
        folder: Where ``fit.json``, ``draws.npz`` and ``runs.csv`` go; None writes nothing.
        how: Options of :func:`dcpt.laws.fit`.

    Raises:
        InputError: If no law suits the table, or a file of the user is in the way.
    """
    from dcpt.laws import fit, write_fit
    from dcpt.table import write_runs

    if folder is not None:
        check_files(folder, FIT_FILES)
    fitted = fit(runs, **how)
    if folder is not None:
        claim_files(folder, FIT_FILES)
        make_room(folder / "runs.csv")
        write_runs(runs, folder / "runs.csv")
        write_fit(fitted, folder)
        record_files(folder, FIT_FILES)
    return fitted


def read_target(place: Place, **fields: Unpack[TargetFields]) -> Target:
    """The large run that a recommendation is for.

    Args:
        place: A study, whose target section and measured base losses are read; or a fit
            folder, which has none.
        fields: Fields that replace those of the study's target.

    Raises:
        InputError: If something that a decision needs is neither given nor measured.
    """
    from dcpt.decide.records import Target

    check_fit(place)
    known = study_target(place) if isinstance(place, Workspace) else {}
    given = {name: value for name, value in fields.items() if value is not None}
    if "limit" in given:
        known = {**known, "channel_limits": {}}
    elif "channel_limits" in given:
        known = {**known, "limit": NO_LIMIT}
    if given.get("n_params", known.get("n_params")) != known.get("n_params"):
        # Another size is another base, so nothing measured on the study's own base applies.
        known = {name: known[name] for name in OF_ANY_SIZE if name in known}
    merged = {**known, **given}
    merged["base_losses"] = known.get("base_losses", {}) | dict(fields.get("base_losses") or {})
    texts = dict(fields.get("unique_tokens") or {})
    merged["unique_tokens"] = known.get("unique_tokens", {}) | texts
    for name in ("n_params", "n_tokens", "limit"):
        if merged.get(name) is None:
            option = name.replace("_", "-")
            raise InputError(f"{place}: the target's {name} is not known; give --{option}")
    return Target(**merged)


def recommend_for(
    place: Place, target: Target, level: float = 0.9, laws: Sequence[str] = ()
) -> Recommendation:
    """Decide from the fit of a study or of a fit folder; writes ``recommendation.json``."""
    from dcpt.decide import recommend, write_recommendation
    from dcpt.laws import load_fit

    folder = fit_folder(place)
    answer = recommend(load_fit(folder, laws), target, level)
    write_recommendation(answer, folder)
    return answer


def check_target(place: Place, answer: Recommendation) -> None:
    """Refuse a recommendation that was made before the study's target section changed.

    Fields that were set by hand (``--limit``) do not count.

    Raises:
        InputError: If the section is another one now.
    """
    made_from = answer.target.section_sha256
    if isinstance(place, Workspace) and made_from not in (None, hash_section(place)):
        raise InputError(
            f"{place}: the target section has changed since recommendation.json was made (for "
            f"{format_count(answer.target.n_params)} parameters, "
            f"{format_count(answer.target.n_tokens)} tokens and the limit "
            f"{answer.target.limits_in_words}); "
            f"run `dcpt recommend {place}` again"
        )


def read_current_answer(place: Place, laws: Sequence[str] = ()) -> tuple[Recommendation, Fit]:
    """Read the recommendation of a study or of a fit folder, and its fit.

    Args:
        place: A study, or a folder of a fit.
        laws: A person's own laws in the fit.

    Raises:
        InputError: If there is none, or it was made from another fit, or for another target than
            the study names.
    """
    from dcpt.decide import read_recommendation
    from dcpt.laws import load_fit

    check_fit(place)
    folder = fit_folder(place)
    answer = read_recommendation(folder)
    check_target(place, answer)
    fitted = load_fit(folder, laws)
    if answer.fit_sha256 != fitted.sha256:
        raise InputError(
            f"{folder}: recommendation.json was made from another fit than fit.json; "
            f"run `dcpt recommend {place}` again"
        )
    return answer, fitted


def report_on(
    place: Place,
    *,
    out: Path | None = None,
    title: str | None = None,
    laws: Sequence[str] = (),
    sliders: bool = True,
    figures: Path | None = None,
) -> list[Path]:
    """Write the page (HTML, Markdown, JSON) of a study or of a fit folder.

    A person's own laws in the fit are named in ``laws``. With ``sliders`` the page has the answers
    at other settings too, which take some seconds to compute. ``figures`` is a folder for the
    figures as SVG and PNG.

    Raises:
        InputError: If the recommendation was made from another fit, or for another target than the
            study names.
    """
    from dcpt.decide.settings import answer_settings
    from dcpt.report.figure_files import write_figures
    from dcpt.report.page import write_report
    from dcpt.table import load_runs

    folder = fit_folder(place)
    answer, fitted = read_current_answer(place, laws)
    checked, notes = _read_own_verification(folder, answer)
    study = place if isinstance(place, Workspace) else None
    if study is not None:
        notes += [f"Near-duplicates: {flag.sentence}" for flag in study.near_copies]
    # Not the runs of today: rows of the fit are numbered in its own table.
    runs = load_runs(folder / "runs.csv")
    pages = write_report(
        out or folder / "report",
        runs=runs,
        fit=fitted,
        recommendation=answer,
        verification=checked,
        own_decays=[] if study is None else study.rows.own_decays,
        settings=answer_settings(fitted, answer) if sliders else None,
        title=title or (folder.name if study is None else study.study.name),
        notes=notes,
    )
    if figures is not None:
        pages += write_figures(
            figures, runs=runs, fit=fitted, recommendation=answer, verification=checked
        )
    return pages


def _read_own_verification(
    folder: Path, answer: Recommendation
) -> tuple[Verification | None, list[str]]:
    """The verification of a recommendation, and a note if the one there is of another."""
    from dcpt.decide import plan_verification, read_verification

    checked = read_verification(folder)
    planned = [] if answer.best is None else plan_verification(answer)
    asked = {(pair.ratio, pair.learning_rate) for pair in planned}
    if checked is None or {(run.ratio, run.learning_rate) for run in checked.runs} == asked:
        return checked, []
    note = (
        "verification.json checks another recommendation and is left out of this page; `dcpt "
        "verify` checks this one"
    )
    return None, [note]
