"""Where do many jobs run?  Here one by one, in processes of this machine, or as tasks of a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import Any, Literal, TypeVar

import torch

from stackelberg.errors import StackelbergError

Where = Literal["here", "processes", "cluster"]
T = TypeVar("T")


def spread(
    work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], where: Where, processes: int
) -> Iterator[tuple[int, T | Exception]]:
    """Yield (place of a job, what work(*job) gave or raised) as the jobs end; a job that fails stops no other.

    Args:
        work: what is done; elsewhere than here it is found by its name in its module.
        jobs: the arguments of every call, as plain data elsewhere than here.
        where: "here", one after the other; "processes" of this machine, a fresh one for each job; "cluster", tasks of
            Ray (an extra), which must see the jobs' files under the same paths.
        processes: jobs at a time, elsewhere than here.

    Raises:
        StackelbergError: Ray is missing.
    """
    if where == "here":
        return ((place, _tried(work, job)) for place, job in enumerate(jobs))
    return (_in_processes if where == "processes" else _on_cluster)(work, jobs, processes)


def _tried(work: Callable[..., T], job: tuple[Any, ...]) -> T | Exception:
    try:
        return work(*job)
    except Exception as error:
        return error


def _in_processes(
    work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[tuple[int, T | Exception]]:
    with ThreadPoolExecutor(processes) as slots:
        waiting = {slots.submit(_alone, work, job, processes): place for place, job in enumerate(jobs)}
        try:
            for ended in as_completed(waiting):
                yield waiting[ended], ended.result()
        finally:
            slots.shutdown(wait=False, cancel_futures=True)


def _alone(work: Callable[..., T], job: tuple[Any, ...], processes: int) -> T | Exception:
    """The job in a pool of one process, so that one that is killed takes no other with it."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_share, initargs=(processes,)) as own:
        try:
            return own.submit(work, *job).result()
        except BrokenProcessPool:
            return StackelbergError("its process was ended before it was done, perhaps for want of memory")
        except Exception as error:
            return error


def _share(processes: int) -> None:
    """Leave to each process its part of the cores."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def _on_cluster(
    work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[tuple[int, T | Exception]]:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise StackelbergError("a cluster needs Ray: pip install 'stackelberg[cluster]'") from None
    ray.init(ignore_reinit_error=True)
    task = ray.remote(work).options(max_retries=3)
    queue, running = iter(enumerate(jobs)), {}
    while True:
        for place, job in islice(queue, processes - len(running)):
            running[task.remote(*job)] = place
        if not running:
            return
        (ended, *_), _ = ray.wait(list(running), num_returns=1)
        place, outcome = running.pop(ended), _tried(ray.get, (ended,))
        yield place, getattr(outcome, "cause", None) or outcome  # Ray's error wraps the job's own
