"""The processes of each life agree on a name, whatever the dead have left in the store."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore, Store  # pyright: ignore[reportPrivateImportUsage]

from stackelberg.games.lives import agreed


def life(store: Store, world: int) -> str:
    """The name on which all of them agree."""
    with ThreadPoolExecutor(world) as threads:
        names = {future.result(60) for future in [threads.submit(agreed, store, rank, world) for rank in range(world)]}
    assert len(names) == 1
    return names.pop()


@pytest.mark.parametrize("worlds", [(3, 3), (3, 2), (1, 4), (1, 1)])
def test_each_life_has_a_name_of_its_own(worlds: tuple[int, int]) -> None:
    store = HashStore()
    first, second = (life(store, world) for world in worlds)
    assert first != second


def test_one_that_dies_on_the_way_leaves_nothing_that_binds_the_next() -> None:
    store = HashStore()
    store.set("word/1", "of the dead")
    store.set("answer/of the dead", "a life that was")
    assert life(store, 2) != "a life that was"
