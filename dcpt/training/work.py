"""The remaining work of a run, and the saved state that it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training.state import read_step


@dataclass(frozen=True)
class Work:
    """The remaining work of a run.

    Steps are counted from D = 0; "at step 3" is after three optimizer steps.

    Attributes:
        start: State to start from; None is the base.
        end: Step at which the work is done.
        run_end: Last step of the run; larger than ``end`` if only an earlier state is missing.
        points: Steps at which every channel is evaluated, done or not.
        known: Points that are recorded and not evaluated again.
        states: Steps whose state must be kept and is missing.
        resets: Steps at which the sums of training losses are reset: points, and the start of a
            branch.
    """

    start: Path | None
    end: int
    run_end: int
    points: frozenset[int]
    known: frozenset[int]
    states: frozenset[int]
    resets: frozenset[int]


def find_work(config: RunConfig, runs: Path) -> Work:
    """Find what is missing of a run, and the latest saved state before it.

    A planned point that is not recorded is missing too, so an unfinished run whose metrics were
    lost resumes before them.

    A finished trunk may have to be extended, or to provide a state that it did not keep. A branch
    starts from its trunk's state. If that was not kept, it starts from an earlier state or from the
    base and repeats the trunk's steps, without changing the trunk's folder.

    Args:
        config: The run.
        runs: Folder of all runs.

    Raises:
        DamagedFileError: If the checkpoint cannot be read.
    """
    identity, recorded = config.identity, config.recorded
    folder = RunFolder.of(config, runs)
    result = folder.result()
    reached = 0 if result is None else _steps(config, result["n_tokens"])
    end = max(config.n_steps, reached)

    wanted = {_steps(config, n) for n in {*recorded.keep_state_at} - {*folder.deleted_states()}}
    if identity.kind == "trunk":
        wanted.add(end)
    batch = identity.batch_tokens
    states = {step for step in wanted if not folder.state(step * batch).exists()}
    missing = set(states)
    if reached < end or (must_save_model(config) and not folder.model.is_dir()):
        missing.add(end)
    assert missing, f"{config.name} is done"

    saved = {n // batch: path for n, path in folder.states().items() if n % batch == 0}
    if folder.checkpoint.exists():
        saved[read_step(folder.checkpoint)] = folder.checkpoint
    resets = set()
    if identity.kind == "branch":
        assert identity.decay is not None, f"{config.name} has no decay"
        saved |= _trunk_states(config, runs)
        resets = {_steps(config, identity.decay.start_tokens)}
    points = {0, end} if identity.kind == "trunk" else {end}
    if identity.kind != "branch":
        points |= {_steps(config, n) for n in recorded.evaluation_at}
    known = {_steps(config, point["n_tokens"]) for point in folder.points()}
    # Points of a finished part follow its plan at that time, so none of them is lost.
    lost = {step for step in points - known if result is None or step > reached}
    start = max(
        (
            step
            for step in saved
            # A state is saved after the point of its step.
            if step <= min(missing) and step < min(lost, default=step + 1)
        ),
        default=0,
    )
    return Work(
        start=saved.get(start),
        end=max(missing),
        run_end=end,
        points=frozenset(points),
        # Steps of an unfinished run after its checkpoint are trained and evaluated again.
        known=frozenset(step for step in known if step <= max(start, reached)),
        states=frozenset(states),
        resets=frozenset(points | resets),
    )


def must_save_model(config: RunConfig) -> bool:
    """Whether the run saves a model folder: on request, and for every pre-training run."""
    return config.recorded.save_model or config.identity.kind == "pretrain"


def _trunk_states(config: RunConfig, runs: Path) -> dict[int, Path]:
    """States of the trunk that a branch may start from."""
    identity = config.identity
    assert identity.decay is not None, f"{config.name} leaves no trunk"
    assert identity.trunk is not None, f"{config.name} leaves no trunk"
    own = {"kind": "trunk", "trunk": None, "decay": None}
    channels = tuple(channel for channel in identity.channels if channel.side != "extra")
    trunk = identity.model_copy(update={**own, "channels": channels})
    assert trunk.hash == identity.trunk, (
        f"{config.name} does not go on with the mixture of its trunk"
    )
    folder = RunFolder.find(identity.trunk, runs)
    kept = {} if folder is None else folder.states()
    batch, leaves = identity.batch_tokens, identity.decay.start_tokens
    return {n // batch: path for n, path in kept.items() if n <= leaves and n % batch == 0}


def _steps(config: RunConfig, n_tokens: int) -> int:
    steps, rest = divmod(n_tokens, config.identity.batch_tokens)
    assert rest == 0, f"{config.name}: {n_tokens} tokens are no whole number of steps"
    return steps
