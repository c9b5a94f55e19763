"""A data set from the Hugging Face hub: from its cache on this machine, else over the network."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stackelberg.data.dataset import Dataset
from stackelberg.data.parquet import from_table

HUB = "hub:"


class Unreachable(Exception):
    """The hub did not give the data set; the message says why."""


def read_hub(name: str, split: str, classes: Sequence[str] | None) -> Dataset:
    """The examples of a split of the hub's data set `name`; the network is asked only if the cache has nothing.

    Raises:
        Unreachable: `datasets` is not installed, or neither the cache nor the network has the data set.
    """
    try:
        import datasets
        import huggingface_hub
    except ImportError as error:
        raise Unreachable("the Hugging Face hub needs the extra: pip install 'stackelberg[hub]'") from error
    try:
        with _cache_only():
            found = datasets.load_dataset(name, split=split)
    except Exception:
        try:
            huggingface_hub.HfApi().dataset_info(
                name, timeout=10
            )  # one question, where load_dataset would try for long
            found = datasets.load_dataset(name, split=split)
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise Unreachable(f"the Hugging Face hub did not give {name} ({reason[0]})") from error
    return from_table(found.with_format("arrow")[:], f"{HUB}{name}", classes)


@contextmanager
def _cache_only() -> Iterator[None]:
    """The hub's libraries without network, and without a word about it."""
    from datasets import config, logging
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE, logging.get_verbosity()
    config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    logging.set_verbosity_error()
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before[:2]
        logging.set_verbosity(before[2])
