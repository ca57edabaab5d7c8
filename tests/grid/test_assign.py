"""Which run starts next, and on which worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_configs import run_config

from dcpt.grid.assign import (
    Place,
    choose_group,
    choose_move,
    choose_place,
    choose_to_compile,
)
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import RunQueue, chain_seconds
from dcpt.grid.slots import Slot
from dcpt.grid.speeds import H100_TOKENS_PER_S, speed_on_h100
from dcpt.runs.identity import Decay
from dcpt.study.folder import StudyFolder


def trunk(seed: int, n_tokens: int = 100_000, n_params: float = 1e6) -> PlannedRun:
    return PlannedRun(run_config(n_tokens=n_tokens, seed=seed), about_n_params=n_params)


def branch(of: PlannedRun, start: int, n_tokens: int) -> PlannedRun:
    decay = Decay(start_tokens=start, n_tokens=n_tokens)
    seed, hash_ = of.config.identity.seed, of.identity_hash
    config = run_config(
        n_tokens=start + n_tokens, kind="branch", trunk=hash_, decay=decay, seed=seed
    )
    return PlannedRun(config, (hash_,), of.about_n_params)


def queue_of(folder: Path, *runs: PlannedRun) -> RunQueue:
    return RunQueue(runs, StudyFolder(folder / "study.yaml"))


def gpus(n: int, *sizes: float) -> list[Place]:
    return [Place(slot=Slot((f"cuda:{i}",), lanes=3), sizes=set(sizes)) for i in range(n)]


def place_of(run: PlannedRun, queue: RunQueue, places: list[Place]) -> Place | None:
    return choose_place(run, queue, places, queue.all_seconds_left())


def start(queue: RunQueue, run: PlannedRun, place: Place, reached: int = 10) -> None:
    queue.take(run)
    queue.note_progress(run.name, reached)
    place.busy_with[run.name] = run


def test_a_branch_starts_once_its_trunk_is_past_its_state(tmp_path: Path) -> None:
    first = trunk(0)
    early, late = branch(first, 40_000, 10_000), branch(first, 100_000, 10_000)
    queue = queue_of(tmp_path, first, early, late)
    assert list(queue.ready()) == [first]
    queue.take(first)
    queue.note_progress(first.name, 40_000)  # Its state may not be written yet.
    assert not list(queue.ready())
    queue.note_progress(first.name, 40_010)
    assert list(queue.ready()) == [early]
    queue.end(first, "finished")
    assert set(queue.ready()) == {early, late}


def test_a_state_of_an_earlier_call_is_enough_for_its_branch(tmp_path: Path) -> None:
    first = trunk(0)
    early, late = branch(first, 40_000, 10_000), branch(first, 100_000, 10_000)
    folder = tmp_path / "runs" / first.name
    folder.mkdir(parents=True)
    (folder / "state-40000.safetensors").touch()
    queue = queue_of(tmp_path, first, early, late)
    assert set(queue.ready()) == {first, early}
    queue.take(first)
    queue.end(first, "failed", "no luck")
    assert list(queue.ready()) == [early]
    assert queue.outcome.failed.keys() == {first.name, late.name}


def test_the_longest_chain_of_runs_starts_first(tmp_path: Path) -> None:
    long, short = trunk(0, 100_000), trunk(1, 90_000)
    behind = branch(short, 90_000, 20_000)
    queue = queue_of(tmp_path, long, short, behind)
    assert list(queue.ready()) == [short, long]


def test_a_branch_counts_from_where_it_leaves_its_trunk() -> None:
    first = trunk(0, 100_000)
    early = branch(first, 10_000, 50_000)
    chains = chain_seconds([first, early])
    assert chains[first.identity_hash] == pytest.approx(first.seconds)
    late = branch(first, 100_000, 50_000)
    chains = chain_seconds([first, early, late])
    assert chains[first.identity_hash] == pytest.approx(1.5 * first.seconds)


def test_a_run_goes_to_the_worker_with_the_least_work_left(tmp_path: Path) -> None:
    runs = [trunk(seed, n_tokens=10**8) for seed in range(6)]
    queue, places = queue_of(tmp_path, *runs), gpus(2, 1e6)
    start(queue, runs[0], places[0], 10)
    start(queue, runs[1], places[1], 9 * 10**7)
    start(queue, runs[2], places[1], 8 * 10**7)
    assert place_of(runs[3], queue, places) is places[1]  # Two runs, but less work.


def test_a_size_that_is_not_compiled_costs_time(tmp_path: Path) -> None:
    runs = [trunk(seed, n_tokens=10**8) for seed in range(20)]
    queue, places = queue_of(tmp_path, *runs), gpus(2)
    places[0].sizes.add(1e6)
    start(queue, runs[0], places[0], 99_000_000)
    assert place_of(runs[1], queue, places) is places[0]
    queue, places = queue_of(tmp_path, *runs), gpus(2)
    places[0].sizes.add(1e6)
    start(queue, runs[0], places[0])
    assert place_of(runs[1], queue, places) is places[1]


def test_a_base_that_others_wait_for_keeps_its_device_to_itself(tmp_path: Path) -> None:
    base = trunk(0, 10**8)
    waiting = [
        PlannedRun(run_config(n_tokens=10**8, seed=seed), (base.identity_hash,), 1e6)
        for seed in range(1, 5)
    ]
    small = trunk(9, 10**7)
    queue, places = queue_of(tmp_path, base, *waiting, small), gpus(2, 1e6)
    start(queue, base, places[0])
    places[1].busy_with = {f"other {i}": trunk(20 + i) for i in range(3)}
    assert place_of(small, queue, places) is None
    places[1].busy_with.clear()
    assert place_of(small, queue, places) is places[1]


def test_a_run_moves_to_a_worker_that_has_none(tmp_path: Path) -> None:
    runs = [trunk(seed, n_tokens=10**9, n_params=29e6) for seed in range(2)]
    queue, places = queue_of(tmp_path, *runs), gpus(2, 29e6)
    start(queue, runs[0], places[0])
    start(queue, runs[1], places[0])
    moved = choose_move(queue, places)
    assert moved is not None
    run, place = moved
    assert run in runs
    assert place is places[0]
    for reached in runs:  # Saving and loading would take longer than the rest.
        queue.note_progress(reached.name, 10**9 - 10)
    assert choose_move(queue, places) is None


def test_speeds_go_through_the_measured_sizes_and_fall_with_size() -> None:
    for n_params, measured in H100_TOKENS_PER_S.items():
        assert speed_on_h100(n_params) == pytest.approx(measured)
    largest = max(H100_TOKENS_PER_S)
    assert speed_on_h100(10 * largest) == pytest.approx(H100_TOKENS_PER_S[largest] / 10)
    sizes = [1e5, 1e6, 3e6, 1e7, 5e7, 2e8]
    assert sorted(map(speed_on_h100, sizes), reverse=True) == list(map(speed_on_h100, sizes))


def test_tokens_count_once_for_the_occupancy(tmp_path: Path) -> None:
    first = trunk(0, 100_000)
    queue = queue_of(tmp_path, first)
    queue.measure_occupancy(1)
    assert queue.outcome.first_step_s is None
    queue.take(first)
    for reached in (10, 60_000, 50_000, 70_000):  # It went back to a checkpoint.
        queue.note_progress(first.name, reached)
    queue.end(first, "finished")
    assert queue._trained_s == pytest.approx(first.seconds)


def test_a_run_over_two_devices_takes_the_two_workers_with_the_least_work(tmp_path: Path) -> None:
    runs = [trunk(seed, n_tokens=10**8) for seed in range(3)]
    wide = PlannedRun(run_config(n_tokens=10**8, seed=9), n_devices=2)
    queue, places = queue_of(tmp_path, *runs, wide), gpus(3, 1e6)
    assert place_of(wide, queue, places) is None
    for run, place, reached in zip(runs, places, (10, 9 * 10**7, 8 * 10**7), strict=True):
        start(queue, run, place, reached)
    assert choose_group(wide, queue, places) == [places[1], places[2]]
    assert choose_group(wide, queue, places[:1]) == []
    same_gpu = [Place(slot=Slot(("cuda:0",))), Place(slot=Slot(("cuda:0",)))]
    assert choose_group(wide, queue, same_gpu) == []
    on_cpu = [Place(slot=Slot()), Place(slot=Slot())]
    assert choose_group(wide, queue, on_cpu) == on_cpu
    both = Place(slot=Slot(("cuda:0", "cuda:1")))
    assert place_of(wide, queue, [*places, both]) is both
    queue.take(wide)
    assert not any(place_of(trunk(5), queue, [place]) for place in [both])


def test_an_idle_worker_compiles_the_size_of_the_longest_chain_to_come(tmp_path: Path) -> None:
    base = trunk(0, 10**7, 29e6)
    waiting = PlannedRun(run_config(n_tokens=10**8, seed=1), (base.identity_hash,), 29e6)
    small, huge = trunk(2, 10**7, 1e6), trunk(3, 10**8, 7e9)
    queue, (place, busy) = queue_of(tmp_path, base, waiting, small, huge), gpus(2)
    start(queue, base, busy)
    assert choose_to_compile(queue, busy) is None
    assert choose_to_compile(queue, place) is waiting
    place.sizes.add(29e6)
    assert choose_to_compile(queue, place) is small
    place.sizes.add(1e6)
    assert choose_to_compile(queue, place) is None  # A model that fills the device compiles once.
    assert choose_to_compile(queue, Place(slot=Slot())) is None
