"""What a run still has to do, and the saved state from which to do it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training.state import read_step


@dataclass(frozen=True)
class Work:
    """Steps are counted from D = 0; "at step 3" is after three optimizer steps.

    Attributes:
        start: State to start from; None is the base.
        end: Step at which the work is done.
        run_end: Last step of the run; beyond ``end`` where only an earlier state is missing.
        points: Steps at which every channel is evaluated, whether or not that was done already.
        known: Points that were written down, and are not evaluated again.
        states: Steps whose state is to be kept and is not there yet.
        resets: Steps at which the sums of training losses start anew: points, and where a branch
            leaves its trunk.
    """

    start: Path | None
    end: int
    run_end: int
    points: frozenset[int]
    known: frozenset[int]
    states: frozenset[int]
    resets: frozenset[int]


def find_work(config: RunConfig, runs: Path) -> Work:
    """Find what is missing of a run, and the latest saved state before all of that.

    A point that was planned and is not written down is missing as well: an unfinished run whose
    metrics were lost does not go on behind them.

    A trunk that is done may be asked for more: to go on, or for a state that it did not keep. A
    branch begins in its trunk's state; where that was not kept it begins in an earlier one, or at
    the base, and trains the trunk's steps again by itself: it leaves the trunk's folder alone.

    Args:
        config: The run.
        runs: Folder of all runs.

    Raises:
        DamagedFileError: If the checkpoint cannot be read.
    """
    one, recorded = config.identity, config.recorded
    folder = RunFolder.of(config, runs)
    result = folder.result()
    reached = 0 if result is None else _steps(config, result["n_tokens"])
    end = max(config.n_steps, reached)

    wanted = {_steps(config, n) for n in recorded.keep_state_at}
    if one.kind == "trunk":
        wanted.add(end)
    batch = one.batch_tokens
    states = {step for step in wanted if not folder.state(step * batch).exists()}
    missing = set(states)
    if reached < end or (must_save_model(config) and not folder.model.is_dir()):
        missing.add(end)
    assert missing, f"{config.name} is done"

    saved = {n // batch: path for n, path in folder.states().items() if n % batch == 0}
    if folder.checkpoint.exists():
        saved[read_step(folder.checkpoint)] = folder.checkpoint
    resets = set()
    if one.kind == "branch":
        assert one.decay is not None, f"{config.name} has no decay"
        saved |= _trunk_states(config, runs)
        resets = {_steps(config, one.decay.start_tokens)}
    points = {0, end} if one.kind == "trunk" else {end}
    if one.kind != "branch":
        points |= {_steps(config, n) for n in recorded.evaluation_at}
    known = {_steps(config, point["n_tokens"]) for point in folder.points()}
    # Those of a finished part are as they were planned then, and none is lost.
    lost = {step for step in points - known if result is None or step > reached}
    start = max(
        (
            step
            for step in saved
            # A state is saved behind the point of its step.
            if step <= min(missing) and step < min(lost, default=step + 1)
        ),
        default=0,
    )
    return Work(
        start=saved.get(start),
        end=max(missing),
        run_end=end,
        points=frozenset(points),
        # What an unfinished run did behind its checkpoint is trained, and so evaluated, anew.
        known=frozenset(step for step in known if step <= max(start, reached)),
        states=frozenset(states),
        resets=frozenset(points | resets),
    )


def must_save_model(config: RunConfig) -> bool:
    """Whether the run ends in a model folder: on request, and always where it makes a base."""
    return config.recorded.save_model or config.identity.kind == "pretrain"


def _trunk_states(config: RunConfig, runs: Path) -> dict[int, Path]:
    """States of the trunk that a branch may begin in: those up to its leaving."""
    one = config.identity
    assert one.decay is not None, f"{config.name} leaves no trunk"
    assert one.trunk is not None, f"{config.name} leaves no trunk"
    own = {"kind": "trunk", "trunk": None, "decay": None}
    channels = tuple(channel for channel in one.channels if channel.side != "extra")
    trunk = one.model_copy(update={**own, "channels": channels})
    assert trunk.hash == one.trunk, f"{config.name} does not go on with the mixture of its trunk"
    folder = RunFolder.find(one.trunk, runs)
    kept = {} if folder is None else folder.states()
    batch, leaves = one.batch_tokens, one.decay.start_tokens
    return {n // batch: path for n, path in kept.items() if n <= leaves and n % batch == 0}


def _steps(config: RunConfig, n_tokens: int) -> int:
    steps, rest = divmod(n_tokens, config.identity.batch_tokens)
    assert rest == 0, f"{config.name}: {n_tokens} tokens are no whole number of steps"
    return steps
