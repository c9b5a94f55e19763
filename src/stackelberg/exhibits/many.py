"""How are many exhibits reproduced?  Where asked, at the same time; one that fails is named, and the others go on."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from stackelberg.errors import StackelbergError, one_line
from stackelberg.exhibits.exhibit import Exhibit, Result
from stackelberg.exhibits.reproducing import command, measured_before, reproduce
from stackelberg.exhibits.stage import Stage
from stackelberg.report.spreading import Where, spread


@dataclass(frozen=True)
class Failed:
    """An exhibit that gave no result.

    Attributes:
        id: of the exhibit.
        why: in one line.
    """

    id: str
    why: str


def reproduce_all(
    exhibits: Sequence[Exhibit],
    stage: Stage,
    force: bool = False,
    *,
    where: Where = "here",
    processes: int = 1,
    tell: Callable[[int, int, str], None] = lambda done, total, words: None,
) -> Iterator[Result | Failed]:
    """Yield what becomes of each exhibit, as it ends; those that were measured before come first.

    What each of them kept on its way (networks, audits, a ledger) is used again after a kill, as by `reproduce`.

    Args:
        exhibits: each once.
        stage: its folders must be the same for all processes and nodes.
        force: measure again what has been measured.
        where: see `spreading.spread`.
        processes: exhibits at a time, elsewhere than "here".
        tell: is called with (exhibits done, all of them, what goes on and how long it may take).
    """
    waiting = {exhibit.id: exhibit for exhibit in exhibits}
    before = _seconds(exhibits, stage)
    for exhibit in exhibits if not force else ():
        if (known := _known(exhibit, stage)) is not None:
            del waiting[exhibit.id]
            yield known
    total, jobs = len(exhibits), list(waiting.values())
    if where != "here":  # the longest first, and before them what nobody has timed: the last to end decides
        jobs.sort(key=lambda exhibit: -before.get(exhibit.id, float("inf")))
        stages = [replace(stage, out=stage.out.resolve(), runs=stage.runs.resolve(), say=partial(_say, one.id), used=[])
                  for one in jobs]  # fmt: skip
    else:
        processes, stages = 1, [stage] * len(jobs)
    tell(total - len(waiting), total, f"measured before; {time_left(waiting, before, processes)}")
    calls = [(exhibit, own, force) for exhibit, own in zip(jobs, stages, strict=True)]
    for place, outcome in spread(reproduce, calls, where, processes):
        exhibit = jobs[place]
        del waiting[exhibit.id]
        row = outcome if isinstance(outcome, Result) else Failed(exhibit.id, _why(outcome, exhibit, stage.seed))
        words = f"{exhibit.id} failed" if isinstance(row, Failed) else _came_out(row)
        tell(total - len(waiting), total, f"{words}; {time_left(waiting, before, processes)}")
        yield row


def time_left(waiting: Sequence[str] | Mapping[str, object], before: Mapping[str, float], processes: int) -> str:
    """How long the exhibits that wait may take, by the seconds that each took before.

    >>> time_left(["X01", "X02", "X05"], {"X01": 600.0, "X02": 300.0}, processes=2)
    'about 10 min left, and X05, never timed'
    >>> time_left(["X05"], {}, processes=1)
    'time left unknown: X05 never timed'
    >>> time_left([], {}, processes=1)
    'none left'
    """
    if not waiting:
        return "none left"
    timed = [before[id] for id in waiting if id in before]
    new = ", ".join(id for id in waiting if id not in before)
    if not timed:
        return f"time left unknown: {new} never timed"
    return f"about {in_words(max(*timed, sum(timed) / processes))} left" + (f", and {new}, never timed" if new else "")


def in_words(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> in_words(42.3), in_words(600.0), in_words(8000.0)
    ('42 s', '10 min', '2.2 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _known(exhibit: Exhibit, stage: Stage) -> Result | Failed | None:
    try:
        return measured_before(exhibit, stage)
    except StackelbergError as error:
        return Failed(exhibit.id, str(error))


def _seconds(exhibits: Sequence[Exhibit], stage: Stage) -> dict[str, float]:
    """How long each took when it was measured last, with whatever settings."""
    found = {}
    for exhibit in exhibits:
        try:
            found[exhibit.id] = Result.from_json(stage.out / f"{exhibit.id}.json").environment.seconds
        except StackelbergError:
            continue
    return found


def _why(error: Exception, exhibit: Exhibit, seed: int) -> str:
    said = str(error)
    if not isinstance(error, StackelbergError):
        said = f"{type(error).__name__}: {said}; alone it shows where: {command(exhibit, seed)}"
    return one_line(said)


def _came_out(result: Result) -> str:
    verdict = "holds" if result.outcome.holds else "does not hold"
    return f"{result.id} {verdict}, {in_words(result.environment.seconds)}"


def _say(id: str, text: str) -> None:
    """From a process of its own, where several speak at once."""
    print(text if text.startswith(id) else f"{id}: {text}", file=sys.stderr, flush=True)
