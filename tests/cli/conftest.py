"""The command line, as a user meets it: arguments in, exit status and both streams out."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from stackelberg.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that was said on standard error."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def stackelberg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs `stackelberg` with some arguments in this process."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["stackelberg", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        streams = capsys.readouterr()
        return Answer(int(ended.value.code or 0), streams.out, streams.err)

    return run
