"""Processes that work on batches of text; their results come in the order of the batches."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from dcpt.errors import InputError
from dcpt.processes import block_signals, end_with_parent, ignore_signals

Batch = TypeVar("Batch")
Result = TypeVar("Result")


@contextmanager
def start_pool(workers: int) -> Iterator[Executor | None]:
    """Start processes for work on text; with one worker there are none."""
    if workers == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    begin = partial(_begin_process, os.getpid())
    with ProcessPoolExecutor(workers, context, initializer=begin) as pool:
        yield pool


def _begin_process(parent: int) -> None:
    """Use one thread, leave Ctrl-C to the parent, and do not outlive it."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    ignore_signals([signal.SIGINT])
    end_with_parent(parent)


def map_in_order(
    function: Callable[[Batch], Result],
    batches: Iterable[Batch],
    pool: Executor | None,
    workers: int,
) -> Iterator[Result]:
    """Apply a function to batches and return the results in their order.

    Args:
        function: What to do with a batch; it can be pickled.
        batches: Read no further ahead than the processes need.
        pool: Processes to use; None works in this one.
        workers: How many processes the pool has.

    Raises:
        InputError: If a process dies.
    """
    if pool is None:
        yield from map(function, batches)
        return
    pending: deque[Future[Result]] = deque()
    try:
        for batch in batches:
            with block_signals():  # it may start a process
                pending.append(pool.submit(function, batch))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            f"a process of {workers} that work on text died, perhaps for want of memory; prepare "
            "with fewer workers"
        ) from error
    finally:
        for future in pending:
            future.cancel()
