"""The processes and threads of a training."""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from traceback import clear_frames
from uuid import uuid4

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store, default_pg_timeout
from torch.distributed.rendezvous import rendezvous

from asr.cores import cores
from features.errors import EarshotError

THREADS = "OMP_NUM_THREADS"
POLL = 0.05  # seconds


class ProcessesError(EarshotError, RuntimeError):
    """Processes of one training that do not find each other."""


@contextmanager
def processes() -> Iterator[tuple[torch.device, int, int]]:
    """Join the other processes if `torchrun` started this one; yield device, rank and count."""
    cuda = torch.cuda.is_available()
    if "RANK" not in os.environ:
        choose_threads()
        yield torch.device("cuda" if cuda else "cpu"), 0, 1
        return
    # AdamW and DistributedDataParallel import it. If it is imported while there is a process group,
    # it keeps that group, and so its threads, beyond the interpreter's end: one of them that then
    # asks for the interpreter aborts the process ("terminate called without an active exception").
    import_module("torch._dynamo")
    store, rank, world = next(rendezvous("env://"))
    distributed.init_process_group(
        "nccl" if cuda else "gloo",
        store=fresh_part(store, rank, world),
        rank=rank,
        world_size=world,
    )
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    try:
        yield device, distributed.get_rank(), distributed.get_world_size()
    except BaseException as error:
        clear_frames(error.__traceback__)  # their variables own the group, too
        raise
    finally:
        # The group's threads end with its last owner: DistributedDataParallel, which is in cycles.
        gc.collect()
        distributed.destroy_process_group()


def fresh_part(
    store: Store, rank: int, world: int, patience: timedelta = default_pg_timeout
) -> Store:
    """Agree on a part of the store that no earlier start of these processes has written to.

    `torchrun` keeps its store when it starts processes again, and in it the addresses of those that
    are gone: who reads one of them before its successor has put another in its place waits for
    nobody. So each process asks under a name that is only its own, and the first answers whatever
    names it finds until the others have said that they know.
    """
    if rank:
        name = uuid4().hex
        store.set(f"asked by {rank}", name)
        part = store.get(f"answer to {name}").decode()
        store.set(f"{part} known to {rank}", "")
        return PrefixStore(part, store)
    part = uuid4().hex
    unaware = set(range(1, world))
    until = time.monotonic() + patience.total_seconds()
    while unaware:
        if time.monotonic() > until:
            raise ProcessesError(
                f"{len(unaware)} of the {world} processes of this training did not start; start "
                "all of them again, and look at what the others printed"
            )
        for other in unaware:
            if store.check([f"asked by {other}"]):
                store.set(f"answer to {store.get(f'asked by {other}').decode()}", part)
        time.sleep(POLL)
        unaware = {other for other in unaware if not store.check([f"{part} known to {other}"])}
    return PrefixStore(part, store)


def in_any(here: bool, device: torch.device) -> bool:
    """Whether this is so in any of the processes."""
    if not distributed.is_initialized():
        return here
    flag = torch.tensor(float(here), device=device)
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag.item())


def restarted(device: torch.device) -> bool:
    """Whether `torchrun` has started the processes again because one of them failed: on a machine
    that none of them was on, it does not say so."""
    return in_any(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0, device)


def threads_said(workers: int) -> str:
    """Say how many threads compute and how many processes prepare batches."""
    return (
        f"{torch.get_num_threads()} threads ({THREADS} changes that), "
        f"{min(workers, cores())} loader processes"
    )


def choose_threads() -> None:
    """Give torch the cores that nobody else keeps busy, at least one; OMP_NUM_THREADS decides if
    it is set. (`torchrun` sets it.)"""
    if THREADS not in os.environ:
        torch.set_num_threads(max(1, cores() - round(os.getloadavg()[0])))
