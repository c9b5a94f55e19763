"""What can every command be told?  The options they share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from stackelberg.data import Dataset
    from stackelberg.report.spreading import Where

Data: TypeAlias = Annotated[
    str, typer.Option("--data", help="A named data set (mnist), or a .parquet or .npz file, or a folder.")
]
Norm: TypeAlias = Annotated[str, typer.Option("--norm", help="Norm of the ball: linf, l2, l1 or l0.")]
Seed: TypeAlias = Annotated[int, typer.Option("--seed", help="Of all random numbers.")]
Device: TypeAlias = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto.")]
Devices: TypeAlias = Annotated[int, typer.Option("--devices", min=1, help="Processes on this machine.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Processes: TypeAlias = Annotated[int, typer.Option("--processes", min=1, help="Jobs at a time, a process each.")]
Cluster: TypeAlias = Annotated[
    bool, typer.Option("--cluster", help="As tasks of a Ray cluster, --processes at a time.")
]
OutOrNone: TypeAlias = Annotated[Path | None, typer.Option("--out", help="Directory to write to.")]
Points: TypeAlias = Annotated[
    int | None, typer.Option("--points", min=1, help="Clouds: the first so many points of each; else all.")
]


def few_points(examples: "Dataset", points: int | None) -> "Dataset":
    """The clouds with as many points as were asked for; whatever else as it is."""
    return examples if points is None else examples.points(points)


def where(processes: int, cluster: bool) -> "Where":
    """Where the jobs run that these two options ask for."""
    return "cluster" if cluster else "processes" if processes > 1 else "here"
