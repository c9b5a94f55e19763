"""`stackelberg poison`: what if the adversary moves first, in the training data?"""

import typer

from stackelberg.cli.poison import availability, backdoor, detect, evaluate, targeted

app = typer.Typer(
    help="Poison or protect a training set, and measure what trainers then get.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("availability")(availability.command)
app.command("evaluate")(evaluate.command)
app.command("backdoor")(backdoor.command)
app.command("targeted")(targeted.command)
app.command("detect")(detect.command)
