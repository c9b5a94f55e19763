"""How do the processes of a run that torchrun has restarted find one another, and not the dead?

torchrun keeps one store for all lives of a run (PyTorch 2.5 and later), and there the addresses that the former life
wrote are still found: its processes are then called in vain, and the restarted run fails or waits for half an hour. So
the processes of each life agree on a name that is new, and leave their addresses under it.
"""

import atexit
import os
import time
from uuid import uuid4

from torch import distributed
from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

PAUSE = 0.02
"""Seconds between two looks at the store."""


def join(backend: str) -> None:
    """Join the processes that torchrun has started with this one; nothing to do where its store is not kept."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or distributed.is_initialized():
        return
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    kept = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, is_master=False)
    store = PrefixStore(agreed(kept, rank, world), kept)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world)
    atexit.register(distributed.destroy_process_group)


def agreed(store: Store, rank: int, world: int) -> str:
    """A name for this life that no other has; returns once all `world` processes have asked.

    The first process gives the name. Each other one leaves a word of its own there and waits for the answer to just
    that word, so what is left of the dead is answered, too, but read by nobody.
    """
    own = uuid4().hex
    if rank:
        store.set(f"word/{rank}", own)
        while not store.check([f"answer/{own}"]):
            time.sleep(PAUSE)
        name = store.get(f"answer/{own}").decode()
        store.set(f"{name}/{rank}", "here")
        return name
    missing = set(range(1, world))
    while missing:
        for other in missing:
            if store.check([f"word/{other}"]):
                store.set(f"answer/{store.get(f'word/{other}').decode()}", own)
        time.sleep(PAUSE)
        missing = {other for other in missing if not store.check([f"{own}/{other}"])}
    return own
