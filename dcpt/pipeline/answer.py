"""From runs to a report: table, diagnosis, fit, recommendation and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack, cast

from dcpt.atomic_files import make_room
from dcpt.errors import InputError, did_you_mean
from dcpt.own_folders import check_folder, mark_folder
from dcpt.pipeline.bases import TargetFields, check_fit, study_target
from dcpt.pipeline.workspace import Place, Workspace, fit_folder

if TYPE_CHECKING:
    import pandas as pd

    from dcpt.decide.records import Recommendation, Target
    from dcpt.diagnosis import Diagnosis
    from dcpt.laws import Fit, Law
    from dcpt.table.schedules import Schedule

T = TypeVar("T")

FIT_FILES = ("runs.csv", "fit.json", "draws.npz")
"""Files that a fit writes into its folder."""


class FitOptions(TypedDict, total=False):
    """Options of :func:`dcpt.fit`, which describes them."""

    law: str | Law | Sequence[str | Law]
    channels: Sequence[str] | None
    n_draws: int
    seed: int
    fixed: Mapping[str, float] | None
    bounds: Mapping[str, tuple[float, float]] | None
    delta: float
    schedules: Mapping[str, Schedule] | None


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


def diagnose_runs(place: Place, columns: Mapping[str, str] | None = None) -> Diagnosis:
    """Diagnose the channel losses of a study's runs, or of a table.

    For a study, the run folders are read as well: training losses, and runs that stopped.
    """
    from dcpt.diagnosis import diagnose, read_journals

    runs = collect_runs(place, columns)
    if not isinstance(place, Workspace):
        return diagnose(runs)
    asked = {run.identity_hash for run in place.planned}
    return diagnose(runs, read_journals(place.stored, asked))


def fit_runs(runs: pd.DataFrame, folder: Path | None, **options: Unpack[FitOptions]) -> Fit:
    """Fit laws to a runs table, and write the fit and the table to a folder if one is given.

    Args:
        runs: The table, as :func:`collect_runs` returns it.
        folder: Folder for ``fit.json``, ``draws.npz`` and ``runs.csv``; None writes nothing.
        options: Options of :func:`dcpt.fit`.

    Raises:
        InputError: If no law can be fitted to the table, or the folder holds files of others.
    """
    from dcpt.laws import fit, write_fit
    from dcpt.table import write_runs

    if folder is not None:
        check_folder(folder, FIT_FILES, "fit.json", {"format", "software"})
    fitted = fit(runs, **options)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        mark_folder(folder)
        make_room(folder / "runs.csv")
        write_runs(runs, folder / "runs.csv")
        write_fit(fitted, folder)
    return fitted


def read_target(place: Place, **target: Unpack[TargetFields]) -> Target:
    """Read the target: the large run that a recommendation is for.

    Args:
        place: A study, whose target section and measured base losses are read; or a fit
            folder, which has none.
        target: Fields that replace those of the study's target, unless they are None.

    Raises:
        InputError: If a field is unknown, or one that a decision needs is neither given nor
            measured.
    """
    from dcpt.decide.records import Target
    from dcpt.limit import Limit

    fields_of_target = sorted(TargetFields.__optional_keys__)
    for name in target.keys() - fields_of_target:
        hint = did_you_mean(name, fields_of_target)
        raise InputError(
            f"a target has no field {name}; its fields: {', '.join(fields_of_target)}{hint}"
        )
    check_fit(place)
    known = study_target(place) if isinstance(place, Workspace) else TargetFields()
    if target.get("n_params") not in (None, known.get("n_params")):
        # Another size is another base: measurements of the study's base do not apply to it.
        kept = ("n_tokens", "limit", "learning_rate")
        known = cast("TargetFields", {name: known.get(name) for name in kept})
    given = {name: value for name, value in target.items() if value is not None}
    fields = cast("TargetFields", {**known, **given})
    return Target(
        n_params=_require(place, "n_params", fields.get("n_params")),
        n_tokens=_require(place, "n_tokens", fields.get("n_tokens")),
        limit=Limit.parse(_require(place, "limit", fields.get("limit"))),
        base_losses={**known.get("base_losses", {}), **target.get("base_losses", {})},
        base_peak_learning_rate=fields.get("base_peak_learning_rate"),
        base_n_tokens=fields.get("base_n_tokens"),
        warmup_tokens=fields.get("warmup_tokens"),
        learning_rate=fields.get("learning_rate"),
        base=fields.get("base"),
        unique_tokens={**fields.get("unique_tokens", {})},
    )


def _require(place: Place, name: str, value: T | None) -> T:
    """Return a field of the target; refuse None."""
    if value is None:
        option = name.replace("_", "-")
        raise InputError(f"{place}: the target's {name} is not known; give --{option}")
    return value


def recommend_for(
    place: Place, target: Target, level: float = 0.9, laws: Sequence[str] = ()
) -> Recommendation:
    """Recommend from the fit of a study or of a fit folder; writes ``recommendation.json``."""
    from dcpt.decide import recommend, write_recommendation
    from dcpt.laws import load_fit

    folder = fit_folder(place)
    answer = recommend(load_fit(folder, laws), target, level)
    write_recommendation(answer, folder)
    return answer


def report_on(
    place: Place,
    *,
    out: Path | None = None,
    title: str | None = None,
    laws: Sequence[str] = (),
) -> list[Path]:
    """Write the report (HTML, Markdown, JSON) of a study or of a fit folder.

    ``laws`` names the user's own laws in the fit.

    Raises:
        InputError: If the recommendation was made from another fit than the current one.
    """
    from dcpt.decide import plan_verification, read_recommendation, read_verification
    from dcpt.laws import load_fit
    from dcpt.report.page import write_report
    from dcpt.table import load_runs

    check_fit(place)
    folder, notes = fit_folder(place), []
    fitted, answer = load_fit(folder, laws), read_recommendation(folder)
    if answer.fit_sha256 != fitted.sha256:
        raise InputError(
            f"{folder}: recommendation.json was made from another fit than fit.json; "
            f"run `dcpt recommend {place}` again"
        )
    checked = read_verification(folder)
    if checked is not None:
        planned = [] if answer.best is None else plan_verification(answer)
        pairs = {(run.ratio, run.learning_rate) for run in planned}
        if {(run.ratio, run.learning_rate) for run in checked.runs} != pairs:
            checked = None
            notes.append(
                "verification.json checks another recommendation and is left out of this page; "
                "`dcpt verify` checks this one"
            )
    study = place if isinstance(place, Workspace) else None
    return write_report(
        out or folder / "report",
        runs=load_runs(folder / "runs.csv") if study is None else collect_runs(study),
        fit=fitted,
        recommendation=answer,
        verification=checked,
        own_decays=[] if study is None else study.rows.own_decays,
        title=title or (folder.name if study is None else study.study.name),
        notes=notes,
    )
