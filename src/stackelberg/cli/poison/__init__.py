"""`stackelberg poison`: what if the adversary moves first, in the training data?"""

import typer

app = typer.Typer(
    help="Poison or protect a training set, and measure what trainers then get.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
