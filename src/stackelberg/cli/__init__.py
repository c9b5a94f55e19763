"""How do I ask from a shell?  One command per question; each parses, calls one function and prints."""

import sys
from typing import Any, NoReturn

import typer

from stackelberg import __version__
from stackelberg.cli import (
    audit,
    bound,
    certify,
    check,
    compare,
    demo,
    memorize,
    ownership,
    poison,
    reproduce,
    sweep,
    train,
)
from stackelberg.cli.output import warnings_said
from stackelberg.errors import StackelbergError, one_line

app = typer.Typer(
    name="stackelberg",
    help="Train classifiers as a game against an adversary, and audit how secure they are.\n\n"
    "Exit status: 0, 1 where a floor was not met, 2 for bad input.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.command)
app.command("train")(train.command)
app.command("audit")(audit.command)
app.command("compare")(compare.command)
app.command("certify")(certify.command)
app.command("check")(check.command)
app.command("memorize")(memorize.command)
app.command("bound")(bound.command)
app.command("sweep")(sweep.command)
app.command("reproduce")(reproduce.command)
app.add_typer(ownership.app, name="ownership")
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
        with warnings_said():
            status = app(standalone_mode=False)
    except StackelbergError as error:
        _end(str(error))
    except MemoryError as error:
        _end(f"out of memory ({error}); pass fewer or smaller examples, or a narrower network")
    except typer.Abort:
        _end("stopped")
    except Exception as error:
        if not hasattr(error, "format_message"):  # the mark of what typer raises for words it does not understand
            raise
        _end(_misunderstood(error))
    sys.exit(status if isinstance(status, int) else 0)


def _end(sentence: str) -> NoReturn:
    print(f"stackelberg: {one_line(sentence)}", file=sys.stderr)
    sys.exit(2)


def _misunderstood(error: Any) -> str:
    """What is wrong with the words of a command, in one sentence; the help where there were no words at all."""
    said = error.format_message()
    if "\n" in said.strip() and "Usage:" in said:
        print(said, file=sys.stderr)
        sys.exit(error.exit_code)
    path = error.ctx.command_path if getattr(error, "ctx", None) else "stackelberg"
    return f"{said[:1].lower()}{said[1:].rstrip('.')}; {path} --help lists what it takes"
