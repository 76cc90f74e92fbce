"""Coroutines run to their end, so many at a time, from a script or from a notebook."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable


async def each(function: Callable[..., Awaitable[None]], jobs: Iterable, workers: int) -> None:
    """Await `function` of every job, `workers` at a time; the first error stops all."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await function(job)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def run(work: Coroutine):
    """Run a coroutine here, or in a thread of its own where a loop is running (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        return asyncio.run_coroutine_threadsafe(work, loop).result()
    finally:  # after an interrupt, too
        asyncio.run_coroutine_threadsafe(_ended(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
