"""Jobs go to processes or to a cluster, and one that fails or is killed takes no other with it."""

import os
import signal
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.report.spreading import spread


def work(what: str) -> tuple[str, int]:
    if what == "raise":
        raise StackelbergError("it was asked to")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return what, torch.get_num_threads()


def test_here_a_job_that_fails_stops_no_other() -> None:
    (first, one), (second, two) = spread(work, [("raise",), ("go",)], "here", 1)
    assert (first, str(one), second) == (0, "it was asked to", 1)
    assert two == ("go", torch.get_num_threads())


def test_a_killed_process_takes_no_other_with_it() -> None:
    found = dict(spread(work, [("die",), ("go",)], "processes", 2))
    assert isinstance(found[0], StackelbergError)
    assert "ended before it was done" in str(found[0])
    assert found[1] == ("go", max(1, torch.get_num_threads() // 2))


class FakeRay(ModuleType):
    """What is used of Ray's interface, with tasks that run when they are asked for, the last one first."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.most, self.running = 0, 0

    def init(self, ignore_reinit_error: bool) -> None:
        assert ignore_reinit_error

    def remote(self, function: Any) -> "FakeRay":
        self.function = function
        return self

    def options(self, max_retries: int) -> "FakeRay":
        task = ModuleType("task")
        task.remote = self._begun  # pyright: ignore[reportAttributeAccessIssue]
        return task  # pyright: ignore[reportReturnType]

    def _begun(self, *job: Any) -> tuple[Any, ...]:
        self.running += 1
        self.most = max(self.most, self.running)
        return job

    def wait(self, tasks: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return tasks[-num_returns:], tasks[:-num_returns]

    def get(self, job: tuple[Any, ...]) -> Any:
        self.running -= 1
        try:
            return self.function(*job)
        except StackelbergError as error:
            told = RuntimeError("a trace of many lines")
            told.cause = error  # pyright: ignore[reportAttributeAccessIssue]
            raise told from error


def test_a_cluster_has_so_many_tasks_at_a_time_and_says_a_jobs_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    jobs = [("a",), ("raise",), ("b",), ("c",)]
    ended = list(spread(work, jobs, "cluster", 2))
    assert ray.most == 2
    assert [place for place, _ in ended] == [1, 2, 3, 0]
    found = dict(ended)
    assert str(found[1]) == "it was asked to"
    assert [found[place][0] for place in (0, 2, 3)] == ["a", "b", "c"]  # pyright: ignore[reportIndexIssue]


def test_a_cluster_without_ray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StackelbergError, match=r"needs Ray: pip install 'stackelberg\[cluster\]'"):
        list(spread(work, [("go",)], "cluster", 1))
