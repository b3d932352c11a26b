"""Waiting for the log without blocking an event loop: on threads of this package, which share the syncs of the disk."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # `typing` takes longer to load than the rest of this package
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from concurrent.futures import ThreadPoolExecutor
    from typing import Any, TypeVar

    T = TypeVar("T")

# Threads that record at the same time share one sync; they wait for the disk and use hardly any processor time.
_THREADS = 32

_pool: ThreadPoolExecutor | None = None
_pool_of: int = 0


def on_thread(function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Runs a function of the log on a thread; what it gives is awaited in the running event loop."""
    import asyncio

    return asyncio.get_running_loop().run_in_executor(_threads(), function, *arguments)


def _threads() -> ThreadPoolExecutor:
    global _pool, _pool_of
    # A forked process has none of its parent's threads.
    if _pool is None or _pool_of != os.getpid():
        from concurrent.futures import ThreadPoolExecutor

        _pool, _pool_of = ThreadPoolExecutor(_THREADS, "attestlog"), os.getpid()
    return _pool


async def although_cancelled(record: Awaitable[T]) -> T:
    """Waits until a record is on the disk, although this task is cancelled meanwhile; the cancellation is raised afterwards.

    A sibling task that fails cancels the others of its group; without this, the ends of their calls would be missing.
    """
    import asyncio

    future = asyncio.ensure_future(record)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return future.result()
    if not future.cancelled() and (failed := future.exception()) is not None:
        raise cancelled from failed
    raise cancelled
