"""The stations between a study file and its report, each one call.

The command line and the demo both go through here; this is the only room, besides them, that sees
training and laws alike. What a station makes lies beside the study file: ``prepared``, ``runs``,
and ``fit`` with the table, the laws, the recommendation, its verification and the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcpt.atomic_files import DamagedFileError, make_room, set_aside, write_record
from dcpt.errors import InputError
from dcpt.grid.plan import plan_runs, settle_warmup
from dcpt.grid.planned import PlannedRun, Trunk
from dcpt.grid.warmup import damaged_warmup
from dcpt.run_folders import RunFolder
from dcpt.study import Study, StudyFolder
from dcpt.study_file import load_study
from dcpt.targets import (
    check_bases,
    known_base,
    measured_file,
    measured_on,
    read_measured,
    study_target,
)

if TYPE_CHECKING:
    import pandas as pd

    from dcpt.decide.diagnosis import Diagnosis
    from dcpt.decide.records import Recommendation, Target, Verification
    from dcpt.grid.estimate import Estimate
    from dcpt.grid.queue import Outcome, RunQueue
    from dcpt.grid.slots import Slot
    from dcpt.laws import Fit
    from dcpt.table.study_rows import OwnDecay, StudyRows
    from dcpt.text.corpora import Prepared

Tick = Callable[["RunQueue"], None]


def open_study(file: Path) -> tuple[Study, StudyFolder]:
    """Read a study file and name its folders."""
    return load_study(file), StudyFolder(file)


def is_study(place: Path) -> bool:
    """Whether a path names a study file (else it is a table, or a folder made by a fit)."""
    return place.suffix in {".yaml", ".yml"}


def fit_folder(place: Path) -> Path:
    """Where the fit of a study file lies; a folder made by a fit is taken as it is.

    Raises:
        InputError: If the place is some other file.
    """
    if is_study(place):
        return place.parent / "fit"
    if place.is_file():
        raise InputError(f"{place} is a file; name a study's YAML file, or the folder of a fit")
    return place


# ------------------------------------------------------------------------------- training half
def prepare_study(
    file: Path, *, workers: int, progress: Callable[[str, int, int], None] | None = None
) -> Prepared:
    """Tokenise every channel of the study into ``prepared``; a second call does nothing."""
    from dcpt.text.corpora import ChannelSource, StudyBase, prepare

    study, folder = open_study(file)
    sources = [
        ChannelSource(
            name=channel.name,
            train=_resolve(channel.train, folder),
            valid=None if channel.valid is None else _resolve(channel.valid, folder),
            text_field=channel.text_field,
            valid_fraction=channel.valid_fraction,
            max_tokens=channel.max_tokens,
        )
        for channel in study.channels
    ]
    tokenizer = study.tokenizer
    if isinstance(tokenizer, str):
        tokenizer = _resolve(tokenizer, folder, must_exist=False)
    return prepare(
        sources,
        folder.prepared,
        tokenizer,
        sequence_tokens=study.training.sequence_tokens,
        workers=workers,
        progress=progress,
        bases=[
            StudyBase(f"bases.checkpoints.{label}", place, checkpoint.model)
            for label, checkpoint in study.bases.checkpoints.items()
            if (place := Path(_resolve(checkpoint.model, folder, must_exist=False))).is_dir()
        ],
        own_folders=[
            folder.runs,
            fit_folder(file),
            folder.path / "bases",
            folder.path / "resolved.json",
        ],
    )


def _resolve(path: str, folder: StudyFolder, must_exist: bool = True) -> str:
    """A path relative to the study's folder; hub ids stay as they are.

    Args:
        path: As it is written.
        folder: The study's folder.
        must_exist: Whether it can only be a path. If not, what exists neither in the study's folder
            nor in the working folder is a hub id, unless its first part is a folder of the study.
    """
    if path.startswith("hf:"):
        return path
    local = folder.path / Path(path).expanduser()
    if must_exist or local.exists():
        return str(local)
    looks_local = "/" in path and local.parent.is_dir() and not Path(path).exists()
    return str(local) if looks_local else path


def plan_study(file: Path, trunks: Sequence[Trunk] | None = None) -> list[PlannedRun]:
    """Every run the study asks for, or only those of some trunks."""
    study, folder = open_study(file)
    return plan_runs(study, folder, trunks)


def estimate_study(file: Path, slot: Slot) -> list[Estimate]:
    """What every run of the study would cost on one worker of this machine."""
    from dcpt.grid.estimate import estimate_runs

    return estimate_runs(plan_study(file), StudyFolder(file), slot)


def train_study(
    file: Path,
    slots: Sequence[Slot],
    *,
    trunks: Sequence[Trunk] | None = None,
    on_tick: Tick | None = None,
) -> Outcome:
    """Train all runs of the study, or only those of some trunks, that are not done."""
    from dcpt.grid.local import LocalEngine

    study, folder = open_study(file)
    settle_warmup(study, folder)
    return LocalEngine(folder, slots, on_tick).run(plan_runs(study, folder, trunks))


def evaluate_base(file: Path, model: str, label: str | None = None) -> dict[str, Any]:
    """Measure a base on the study's validation shards: its row at D = 0.

    Args:
        file: The study.
        model: Folder or hub id.
        label: The base's name in the study; None finds it by its model.

    Returns:
        The row; that of a base of the study is kept in ``bases/<label>.json`` for recommending.

    Raises:
        InputError: If the label is no base of the study, or the model does not fit the text.
    """
    from dcpt.grid.slots import choose_slots
    from dcpt.training.checkpoints import locate_checkpoint
    from dcpt.training.evaluate import evaluate_model

    study, folder = open_study(file)
    if label is not None and label not in study.bases.names:
        raise InputError(f"--label {label}: the study's bases are {', '.join(study.bases.names)}")
    if label is None:
        found = study.bases.checkpoints.items()
        label = next((name for name, one in found if one.model == model), None)
    channels = [channel.name for channel in study.channels]
    row = evaluate_model(
        locate_checkpoint(model, folder.path),
        folder.prepared,
        channels,
        sequence_tokens=study.training.sequence_tokens,
        validation_tokens=study.evaluation.tokens,
        device=choose_slots(1)[0].device,
        dtype=study.training.dtype,
        packing=study.training.packing,
    )
    row = {"base": label or model, "measured_on": measured_on(study, folder), **row}
    if label is not None:
        (folder.path / "bases").mkdir(exist_ok=True)
        try:
            read_measured(folder, label)
        except DamagedFileError as damaged:
            set_aside(damaged.path)
        write_record(measured_file(folder, label), row)
    return row


# ------------------------------------------------------------------------------ laws half
def collect_runs(place: Path, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The runs table of a study file, or of a CSV or parquet file from any trainer."""
    import pandas as pd

    from dcpt.table import check_runs, load_runs

    if not is_study(place):
        return load_runs(place, columns or {})
    rows = _study_rows(place).rows
    if not rows:
        raise InputError(
            f"{StudyFolder(place).runs} holds no points yet; train with `dcpt run-grid {place}`"
        )
    return check_runs(pd.DataFrame(rows), str(StudyFolder(place).runs))


def left_out_runs(place: Path) -> list[str]:
    """Runs in the study's folder that the study does not ask for, so that no table has them."""
    return _study_rows(place).left_out if is_study(place) else []


def damaged_files(place: Path) -> list[str]:
    """A sentence on each damaged file of a study's runs, whose rows no table has."""
    if not is_study(place):
        return []
    return [*damaged_warmup(StudyFolder(place)), *_study_rows(place).damaged]


def _study_rows(file: Path) -> StudyRows:
    from dcpt.table.study_rows import read_study_rows

    return read_study_rows(StudyFolder(file).runs, [run.config for run in plan_study(file)])


def own_decays(place: Path) -> list[OwnDecay]:
    """The study's decays with mixtures of their own, as measured; a table or a folder has none."""
    return _study_rows(place).own_decays if is_study(place) else []


def diagnose_runs(place: Path, columns: Mapping[str, str] | None = None) -> Diagnosis:
    """What the channel losses of a study's runs, or of a table's, say.

    Of a study the run folders are read as well: lines about training, and runs that stopped.
    """
    from dcpt.decide.diagnosis import diagnose, read_journals

    runs = collect_runs(place, columns)
    if not is_study(place):
        return diagnose(runs)
    asked = {one.config.identity.hash for one in plan_study(place)}
    return diagnose(runs, read_journals(StudyFolder(place).runs, asked))


def fit_runs(runs: pd.DataFrame, folder: Path | None, **how: Any) -> Fit:
    """Fit the laws to a runs table, and write the fit beside its table where a folder is named.

    Args:
        runs: The table, as :func:`collect_runs` gives it.
        folder: Where ``fit.json``, ``draws.npz`` and ``runs.csv`` go; None writes nothing.
        how: Options of :func:`dcpt.laws.fit`.
    """
    from dcpt.laws import fit
    from dcpt.table import write_runs

    fitted = fit(runs, **how)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        make_room(folder / "runs.csv")
        write_runs(runs, folder / "runs.csv")
        fitted.to_json(folder)
    return fitted


def _check_fit(place: Path) -> None:
    """Refuse the fit of a study whose bases have changed since."""
    fitted = fit_folder(place) / "runs.csv"
    if is_study(place) and fitted.exists():
        check_bases(*open_study(place), fitted)


def read_target(place: Path, **given: Any) -> Target:
    """The large run that a recommendation is for.

    Args:
        place: A study file, whose target section and measured base losses are read; or a fit
            folder, which has none.
        given: Fields of :class:`dcpt.decide.records.Target` set by hand; None and empty ones are
            not given. They win over the study's.

    Raises:
        InputError: If something that a decision needs is neither given nor measured.
    """
    from dcpt.decide.records import Target
    from dcpt.limit import Limit

    _check_fit(place)
    known = study_target(place) if is_study(place) else {}
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("n_params", known.get("n_params")) != known.get("n_params"):
        # Another size is another base: nothing that was measured on the study's own holds for it.
        known = {name: known.get(name) for name in ("n_tokens", "limit", "learning_rate")}
    fields = {**known, **given}
    fields["base_losses"] = {**known.get("base_losses", {}), **given.get("base_losses", {})}
    for name in ("n_params", "n_tokens", "limit"):
        if fields.get(name) is None:
            option = name.replace("_", "-")
            raise InputError(f"{place}: the target's {name} is not known; give --{option}")
    return Target(**{**fields, "limit": Limit.parse(fields["limit"])})


def recommend_for(
    place: Path, target: Target, level: float = 0.9, laws: Sequence[str] = ()
) -> Recommendation:
    """Decide from the fit of a study or of a fit folder; writes ``recommendation.json``."""
    from dcpt.decide import recommend, write_recommendation
    from dcpt.laws import load_fit

    folder = fit_folder(place)
    answer = recommend(load_fit(folder, laws), target, level)
    write_recommendation(answer, folder)
    return answer


def verification_trunks(file: Path, answer: Recommendation) -> dict[str, Trunk]:
    """The trunks to train in order to check a recommendation, by label.

    Raises:
        InputError: If the recommendation is not for a base of the study, or there is none.
    """
    from dcpt.decide import plan_verification

    study, folder = open_study(file)
    base = answer.target.base
    if base is None or base not in study.bases.names:
        raise InputError(
            f"{file}: target.base: {base!r} is not a base of the study, so nothing can be trained "
            "to verify the recommendation; add it under bases and name it in target.base"
        )
    n_params = known_base(study, folder, base).get("n_params")
    if n_params != answer.target.n_params:
        raise InputError(
            f"the recommendation is for {answer.target.n_params:g} parameters, base {base!r} has "
            f"{n_params}; call `dcpt recommend {file}` without --n-params first"
        )
    if answer.best is None:
        raise InputError(f"{file}: no share is recommended, so there is nothing to verify")
    # The target's tokens count its decay: the trunk ends where a decay of that share begins.
    n_tokens = round(answer.target.n_tokens / (1 + study.branches.decay))
    seed, trunks = study.grid[0].seeds[0], {}
    for run in plan_verification(answer):
        assert run.learning_rate is not None  # every run of a study has one
        trunks[run.label] = Trunk(base, run.ratio, run.learning_rate, seed, n_tokens)
    return trunks


def estimate_verification(file: Path, slot: Slot) -> list[Estimate]:
    """What the runs that check the recommendation would cost on one worker of this machine.

    Args:
        file: The study, with a recommendation.
        slot: The device to time on.
    """
    from dcpt.decide import read_recommendation
    from dcpt.grid.estimate import estimate_runs

    _check_fit(file)
    trunks = verification_trunks(file, read_recommendation(fit_folder(file)))
    return estimate_runs(plan_study(file, list(trunks.values())), StudyFolder(file), slot)


def verify_study(
    file: Path,
    slots: Sequence[Slot],
    *,
    on_tick: Tick | None = None,
    laws: Sequence[str] = (),
) -> tuple[Verification | None, Outcome]:
    """Train the recommended pair and its neighbours, and compare measured with predicted losses.

    Returns:
        The verification (None if one of its runs failed), and how the training ended.
    """
    from dcpt.decide import compare_verification, read_recommendation, write_verification
    from dcpt.laws import load_fit

    _check_fit(file)
    folder = fit_folder(file)
    answer = read_recommendation(folder)
    trunks = verification_trunks(file, answer)
    outcome = train_study(file, slots, trunks=list(trunks.values()), on_tick=on_tick)
    if outcome.failed:
        return None, outcome
    labels = {}
    for label, trunk in trunks.items():
        configs = (run.config for run in plan_study(file, [trunk]))
        config = next(config for config in configs if config.identity.kind == "trunk")
        labels[RunFolder.of(config, StudyFolder(file).runs).path.name] = label
    checked = compare_verification(load_fit(folder, laws), answer, collect_runs(file), labels)
    write_verification(checked, folder)
    return checked, outcome


def report_on(
    place: Path,
    *,
    out: Path | None = None,
    title: str | None = None,
    laws: Sequence[str] = (),
) -> list[Path]:
    """Write the page (HTML, Markdown, JSON) of a study or of a fit folder.

    A person's own laws in the fit are named in ``laws``.

    Raises:
        InputError: If the recommendation was made from another fit than the one that is there.
    """
    from dcpt.decide import plan_verification, read_recommendation, read_verification
    from dcpt.laws import load_fit
    from dcpt.report.page import write_report
    from dcpt.table import load_runs

    _check_fit(place)
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
        asked = {(one.ratio, one.learning_rate) for one in planned}
        if {(run.ratio, run.learning_rate) for run in checked.runs} != asked:
            checked = None
            notes.append(
                "verification.json checks another recommendation and is left out of this page; "
                "`dcpt verify` checks this one"
            )
    return write_report(
        out or folder / "report",
        runs=collect_runs(place) if is_study(place) else load_runs(folder / "runs.csv"),
        fit=fitted,
        recommendation=answer,
        verification=checked,
        own_decays=own_decays(place),
        title=title or (load_study(place).name if is_study(place) else folder.name),
        notes=notes,
    )
