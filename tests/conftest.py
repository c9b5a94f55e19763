"""What every test may ask for."""

import gc
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

import checked  # noqa: F401  # before stackelberg
from searches import brief
from stackelberg.data import Dataset, load

gc.disable()  # a fifth of the time of importing every test, see `pytest_collection_finish`
_BESIDE = Path(__file__).parents[2] / "shared" / "data"
_LONGEST = (
    "test_pages.py", "test_generalized.py", "test_resuming.py", "test_audit.py", "test_digits_exhibits.py",
    "test_fuzz.py", "test_loop.py", "test_attack.py", "test_bounds_exhibits.py", "test_many.py", "test_certified.py",
    "test_auditing.py", "test_words.py", "test_html.py", "test_spreading.py", "test_convex.py",
    "test_lipschitz_memorizer.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: `make test` deals out whole files, and a long one dealt last is waited for."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


def pytest_collection_finish() -> None:
    """What importing has made stays to the end, so it need not be searched for garbage; what the tests make is."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets, STACKELBERG_DATA or one beside the repository; without it the test is skipped."""
    folder = Path(os.environ.get("STACKELBERG_DATA", _BESIDE))
    if not folder.is_dir():
        pytest.skip(f"needs real data: set STACKELBERG_DATA to a folder with mnist/test.parquet (looked in {folder})")
    return folder


@pytest.fixture(scope="session")
def real_data(data_folder: Path) -> Callable[[str, str], Dataset]:
    """real_data(name, split): a named data set, read once a session; the test is skipped where it is missing."""

    @cache
    def read(name: str, split: str) -> Dataset:
        if not (data_folder / name / f"{split}.parquet").is_file():
            pytest.skip(f"needs {name}/{split}.parquet in {data_folder}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STACKELBERG_DATA", str(data_folder))
            return load(name, split)

    return read


@pytest.fixture(scope="module")
def brief_searches() -> Iterator[None]:
    """For tests of a module that claim nothing about what long searches by scores find."""
    with brief():
        yield


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Nothing changes how many threads torch takes: tests share the cores by it, and so does a user's process."""
    before = torch.get_num_threads()
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before
