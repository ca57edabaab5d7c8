"""Submit jobs to Slurm through submitit."""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dcpt
from dcpt.engines.node import Order, describe_run, engine_marker
from dcpt.engines.slurm.client import NoAnswerError
from dcpt.engines.slurm.job import JobEnd, train_job
from dcpt.engines.slurm.packs import Pack
from dcpt.engines.slurm.submissions import Submission, slurm_folder
from dcpt.errors import InputError
from dcpt.grid.planned import PlannedRun
from dcpt.study.engine import SlurmSection
from dcpt.study.folder import StudyFolder

if TYPE_CHECKING:
    from submitit.slurm.slurm import SlurmExecutor

SIGNAL_S = 90
"""Seconds before its time limit at which a job is warned, to save its runs. Slurm is up to a minute
late; the workers have 25 s to save."""

_EARLY_S = 120.0
"""Slurm warns up to a minute early, and a job listens up to a minute after its start."""

_NO_ANSWER = ("timed out", "unable to contact", "temporarily")
"""What sbatch says when the controller is busy or away: the jobs were not refused."""

Train = Callable[[dict[str, Any]], JobEnd]


def check_installed() -> None:
    """Refuse an installation without submitit.

    Raises:
        InputError: With the command that installs it.
    """
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise InputError(
            "engine slurm needs submitit; install it with: pip install 'dcpt[slurm]'"
        ) from None


def python_of_jobs() -> str:
    """The shell command that starts a job's Python with SIGUSR2 ignored until submitit listens.

    Unknown to a process it ends it: in a campaign of 101 real runs under 40 preemptions two jobs
    were lost in their first two seconds.
    """
    return f'sh -c \'trap "" USR2; exec "$@"\' sh {shlex.quote(sys.executable)}'


class Submitter:
    """Submits jobs of a study.

    Args:
        folder: The study.
        section: How jobs are submitted.
        train: What a job does.
    """

    def __init__(
        self, folder: StudyFolder, section: SlurmSection, train: Train = train_job
    ) -> None:
        self.folder, self.section, self._train = folder, section, train

    def prepare(self) -> None:
        """Make the folder of the jobs, with the marker that nodes look for.

        Raises:
            InputError: If a folder of that name is not dcpt's, or its path has a percent sign.
        """
        if "%" in str(slurm_folder(self.folder)):
            raise InputError(
                f"{slurm_folder(self.folder)}: Slurm replaces % in the path of a job's output, so "
                "its log would be elsewhere; rename the folder without %"
            )
        engine_marker(slurm_folder(self.folder), "the files of Slurm jobs")

    @property
    def _marker(self) -> Path:
        return slurm_folder(self.folder) / "marker"

    def name(self, packs: Sequence[Pack]) -> str:
        """A name for jobs: the study, the first run, the number of further runs, and a token."""
        runs = [run for pack in packs for run in pack.runs]
        more = f"+{len(runs) - 1}" if len(runs) > 1 else ""
        study = runs[0].config.recorded.study_name or self.folder.file.stem
        return f"dcpt.{study}.{runs[0].name}{more}.{secrets.token_hex(3)}"

    def submit(
        self,
        submission: Submission,
        packs: Sequence[Pack],
        after: Sequence[str],
        known: dict[str, PlannedRun],
    ) -> str:
        """Submit jobs as an array; a single job is none.

        Args:
            submission: What was recorded of them.
            packs: The runs of each job.
            after: Ids of the jobs that must have ended before these start.
            known: All planned runs, by hash.

        Returns:
            The id that Slurm gave.

        Raises:
            InputError: If Slurm refuses them.
            NoAnswerError: If it did not answer; it may have taken them all the same.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = self._executor(submission.name, after)
        orders = [asdict(self._order(pack, known)) for pack in packs]
        try:
            jobs = executor.map_array(self._train, orders)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            reason = _reason(error)
            if any(words in reason.lower() for words in _NO_ANSWER):
                raise NoAnswerError(f"sbatch: {reason}") from None
            raise InputError(
                f"Slurm refused the jobs of engine.slurm: {reason}; correct the section, and rerun"
            ) from None
        job_id: str = jobs[0].job_id
        return job_id.partition("_")[0]

    def _order(self, pack: Pack, known: dict[str, PlannedRun]) -> Order:
        own = {run.identity_hash for run in pack.runs}
        needed = [
            known[need] for run in pack.runs for need in run.needs if need in known.keys() - own
        ]
        return Order(
            study=str(self.folder.file.absolute()),
            version=dcpt.__version__,
            marker=self._marker.read_text(encoding="utf-8"),
            marker_file=str(self._marker),
            runs=[describe_run(run) for run in pack.runs],
            needed=[describe_run(run) for run in dict.fromkeys(needed)],
            gpus=self.section.gpus_per_node,
            cpus=self.section.cpus_per_task,
            warned_after_s=max(0.0, 60 * self.section.time_limit - SIGNAL_S - _EARLY_S),
        )

    def _executor(self, name: str, after: Sequence[str]) -> SlurmExecutor:
        from submitit.slurm.slurm import SlurmExecutor

        section = self.section
        # submitit would write an option that is false as --name=False.
        further = {key: value for key, value in section.extra.items() if value is not False}
        further["requeue"] = True
        if section.memory is not None:
            further["mem"] = section.memory
        if after:
            # Also after a base that failed: the other runs of the job can be trained.
            further["dependency"] = "afterany:" + ":".join(after)
        executor = SlurmExecutor(slurm_folder(self.folder), python=python_of_jobs())
        executor.update_parameters(
            job_name=name,
            partition=section.partition,
            account=section.account,
            gpus_per_node=section.gpus_per_node or None,
            cpus_per_task=section.cpus_per_task,
            time=round(section.time_limit),
            setup=section.setup or None,
            signal_delay_s=SIGNAL_S,
            array_parallelism=section.parallel_jobs,
            stderr_to_stdout=True,
            wckey=None,
            additional_parameters=further,
        )
        return executor


def read_end(folder: StudyFolder, job_id: str) -> JobEnd | None:
    """How a job ended by its result in submitit; None if it left none."""
    from submitit.core.utils import JobPaths, pickle_load

    path = JobPaths(slurm_folder(folder), job_id).result_pickle
    with suppress(Exception):  # a torn or foreign pickle raises anything
        outcome, value = pickle_load(path)
        if outcome == "success":
            end: JobEnd = value
            return end
    return None


def log_file(folder: StudyFolder, job_id: str) -> Path:
    """What a job printed."""
    from submitit.core.utils import JobPaths

    return Path(JobPaths(slurm_folder(folder), job_id).stdout)


def _reason(error: Exception) -> str:
    """The message of sbatch, without its name and the command line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    messages = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines]
    return " ".join((messages or [type(error).__name__])[-2:])[:300]
