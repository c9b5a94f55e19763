"""The command line, as a user meets it: arguments in, exit status and both streams out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from stackelberg import data, games, models
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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a small network that reads most digits."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    digits = data.load("digits", "train")
    network = models.build("mlp", 10, digits.shape, 12, seed=0)
    games.solve(games.Standard(), network, digits, 5, out=folder, learning_rate=0.01, batch_size=64, progress=False)
    return folder


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
