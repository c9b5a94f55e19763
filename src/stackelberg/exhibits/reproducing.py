"""How is an exhibit reproduced?  Measured unless it has been with the same settings, and written whole."""

import shlex
import time
from pathlib import Path
from typing import Any

import torch

from stackelberg.exhibits import networks
from stackelberg.exhibits.exhibit import Exhibit, Result
from stackelberg.exhibits.stage import Stage
from stackelberg.games.processes import launch
from stackelberg.report.surroundings import environment


def reproduce(exhibit: Exhibit, stage: Stage, force: bool = False) -> Result:
    """The result in stage.out/<id>.json if settings, seed and networks are the same, else a new one, written there."""
    if not force and (before := measured_before(exhibit, stage)):
        return before
    stage.say(f"{exhibit.id}: {exhibit.title}")
    begun = time.perf_counter()
    stage.used.clear()
    stage.kept = 0.0
    stage.opened.clear()
    outcome = exhibit.run(stage)
    used = list(dict.fromkeys(stage.used))
    result = Result(
        id=exhibit.id,
        title=exhibit.title,
        published=exhibit.published,
        source=exhibit.source,
        claim=exhibit.claim,
        settings=exhibit.settings,
        seed=stage.seed,
        networks=tuple(networks.provenance(name, stage.runs) for name in used),
        outcome=outcome,
        command=command(exhibit, stage.seed),
        environment=environment(_anywhere(stage), 1, time.perf_counter() - begun + stage.kept),
    )  # pyright: ignore[reportCallIssue]  # the version has a default
    result.to_json(stage.out / f"{exhibit.id}.json")
    return result


def measured_before(exhibit: Exhibit, stage: Stage) -> Result | None:
    """The result in stage.out if settings, seed and networks are the same."""
    path = stage.out / f"{exhibit.id}.json"
    if not path.is_file():
        return None
    before = Result.from_json(path)
    if not _same(before, exhibit, stage):
        return None
    stage.say(f"{exhibit.id}: measured before with the same settings ({path}); pass --force to repeat it")
    return before


def command(exhibit: Exhibit, seed: int) -> str:
    """The command line that repeats an exhibit."""
    usual = type(exhibit)().settings
    changed = {name: value for name, value in exhibit.settings.items() if value != usual[name]}
    options = [f"--set {shlex.quote(f'{name}={_as_text(value)}')}" for name, value in changed.items()]
    return " ".join(["stackelberg reproduce", shlex.quote(exhibit.id), *options, f"--seed {seed}"])


def _as_text(value: Any) -> str:
    """A setting as `catalogue.named` reads it."""
    return ",".join(str(one) for one in value) if isinstance(value, tuple | list) else str(value)


def read_results(folder: Path) -> list[Result]:
    """All results in a folder, by id."""
    return [Result.from_json(path) for path in sorted(folder.glob("[A-Z][0-9][0-9].json"))]


def _same(before: Result, exhibit: Exhibit, stage: Stage) -> bool:
    if (before.settings, before.seed) != (exhibit.settings, stage.seed):
        return False
    digests = [(networks.weights_digest(used["name"], stage.runs), used["weights"]) for used in before.networks]
    return all(now is None or now == then for now, then in digests)


def _anywhere(stage: Stage) -> torch.nn.Module:
    """A module on the stage's device: records say where it ran."""
    return torch.nn.Linear(1, 1).to(launch(stage.device).device)
