"""Processes that train together under ``torchrun``: which this is, how many, waiting for all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from hcs_utils.errors import InputError

PATIENCE = timedelta(days=1)  # the others wait while the first prepares a screen


def count() -> int:
    """Processes that train together; 1 outside of `joined`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def this() -> int:
    """Number of this process, its *rank*; 0, the first, alone writes files and judges."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that ``torchrun`` started; of one process alone, do nothing.

    Messages go over gloo on CPUs and over NCCL on GPUs, one GPU a process.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "LOCAL_WORLD_SIZE" not in os.environ:
        yield
        return
    local, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if 0 < gpus < local:
        raise InputError(
            f"torchrun started {local} processes on a machine with {gpus} GPU(s), and each needs "
            f"its own: use --nproc-per-node {gpus}, or CUDA_VISIBLE_DEVICES= to train on CPUs."
        )
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
    yield
    dist.destroy_process_group()  # after an error torchrun ends the others


def wait() -> None:
    """Return when every process has come here."""
    if count() > 1:
        dist.all_reduce(torch.zeros(1))  # over gloo: no GPU is needed, none is kept busy


def differ(value: int) -> list[int]:
    """The values [ranks] of all processes where they are not one and the same, else nothing."""
    if count() == 1:
        return []
    values = [torch.zeros(1, dtype=torch.long) for _ in range(count())]
    dist.all_gather(values, torch.tensor([value]))
    found = [int(v) for v in values]
    return found if len(set(found)) > 1 else []
