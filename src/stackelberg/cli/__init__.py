"""How do I ask from a shell?  One command per question; each parses, calls one function and prints."""

import sys

import typer

from stackelberg import __version__
from stackelberg.cli import audit, bound, certify, check, demo, memorize, poison, reproduce, train
from stackelberg.errors import StackelbergError

app = typer.Typer(
    name="stackelberg",
    help="Train classifiers as a game against an adversary, and audit how secure they are.\n\n"
    "Exit status: 0, 1 where a floor was not met, 2 for bad input.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.command)
app.command("train")(train.command)
app.command("audit")(audit.command)
app.command("certify")(certify.command)
app.command("check")(check.command)
app.command("memorize")(memorize.command)
app.command("bound")(bound.command)
app.command("reproduce")(reproduce.command)
app.add_typer(poison.app, name="poison")


def _version(asked: bool) -> bool:
    if asked:
        print(f"stackelberg {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """The command line. Bad input is one line on standard error and exit status 2; a bug shows its traceback."""
    try:
        app()
    except StackelbergError as error:
        print(f"stackelberg: {error}", file=sys.stderr)
        sys.exit(2)
