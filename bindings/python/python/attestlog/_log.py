"""The log, and calls that are recorded in two steps."""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from contextlib import suppress
from contextvars import ContextVar

from ._errors import ClosedError, Error, InputError
from ._native import Log, PreparedCall, Receipt
from ._plain import plain
from ._proofs import Verification
from ._wait import although_cancelled, on_thread

TYPE_CHECKING = False  # `typing` takes longer to load than the rest of this package
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Any

_MEMBERS: ContextVar[Mapping[str, Any]] = ContextVar("attestlog_members", default={})


class session:
    """Members of every call that is made inside a ``with`` block: its conversation, user, model.

    Decorated tools and adapters take them; a block inside another adds to it. Tasks and threads that asyncio starts inside the
    block are inside too.

        with attestlog.session(conversation_id="conv_1", user_id="usr_7"):
            lookup("o-1")
    """

    __slots__ = ("_members", "_tokens")

    def __init__(self, **members: Any) -> None:
        self._members = members
        self._tokens: list[Any] = []

    def __enter__(self) -> session:
        self._tokens.append(_MEMBERS.set({**_MEMBERS.get(), **self._members}))
        return self

    def __exit__(self, *_: object) -> None:
        _MEMBERS.reset(self._tokens.pop())


def current() -> dict[str, Any]:
    """The members that the ``session`` blocks around this line have set."""
    return dict(_MEMBERS.get())


class AuditLog(Log):
    """A log. Many processes can have it open; the first owns the file, the others record and read through it.

    Use it from any thread. In a forked process every call raises ``ClosedError`` and does nothing: open the log after the fork.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        _OPEN.add(self)

    @classmethod
    def open(cls, path: str | os.PathLike[str], **options: Any) -> AuditLog:
        """Opens the store at ``path``, or reaches the process that has it open. Never creates one."""
        return cls(path, "open", **options)

    @classmethod
    def create(cls, path: str | os.PathLike[str], **options: Any) -> AuditLog:
        """Creates a store at ``path``, where nothing may exist, and its keys in ``path.key``."""
        return cls(path, "create", **options)

    @classmethod
    def open_or_create(cls, path: str | os.PathLike[str], **options: Any) -> AuditLog:
        """Opens the store at ``path``, or creates it if nothing exists there."""
        return cls(path, "open_or_create", **options)

    @classmethod
    def in_memory(cls, **options: Any) -> AuditLog:
        """Creates a store in memory, for tests."""
        return cls(None, "in_memory", **options)

    def begin(self, call: Any = None, /, *, default: Any = None, **members: Any) -> Begun:
        """Records that a call is about to be made, so that a crash during the call leaves a trace."""
        prepared = self.prepare(call, default=default, **members)
        return Begun(self, prepared, self.record_begin(prepared))

    def verify(self, *, public_key: str | None = None, against: str | None = None) -> Verification:
        """Checks every entry, every link and every derived row, and compares with what was kept elsewhere."""
        return Verification(super().verify(public_key=public_key, against=against))

    async def record_async(self, call: Any = None, /, *, default: Any = None, **members: Any) -> Receipt:
        """As ``record``, without blocking the event loop.

        A task that is cancelled while it waits leaves the call recorded whole or not at all; ``although_cancelled`` waits for it.
        """
        return await on_thread(self.record, self.prepare(call, default=default, **members))

    async def record_batch_async(self, calls: Iterable[Any], *, default: Any = None) -> list[Receipt]:
        """As ``record_batch``, without blocking the event loop."""
        return await on_thread(self.record_batch, [self.prepare(call, default=default) for call in calls])

    async def begin_async(self, call: Any = None, /, *, default: Any = None, **members: Any) -> Begun:
        """As ``begin``, without blocking the event loop. If the task is cancelled meanwhile, the call is recorded as abandoned."""
        prepared = self.prepare(call, default=default, **members)
        begun: list[Begun] = []

        def begin() -> None:
            begun.append(Begun(self, prepared, self.record_begin(prepared)))

        try:
            await although_cancelled(on_thread(begin))
        except BaseException:
            for one in begun:
                with suppress(Error):  # then it stays unfinished, and the cancellation is what the caller learns
                    await although_cancelled(one.abandon_async("cancelled before it was made"))
            raise
        begun[0]._began = time.perf_counter_ns()
        return begun[0]

    async def close_async(self) -> None:
        """As ``close``, without blocking the event loop."""
        await although_cancelled(on_thread(self.close))

    def tool(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        two_step: bool = True,
        default: Any = plain,
        **members: Any,
    ) -> Any:
        """Has every call of a function recorded, however it ends; the function may be async, or a generator of either kind.

        The call is begun on the disk before the function runs, and not run if it cannot be (``two_step=False``: recorded once, at
        its end). Its members are those of the ``session`` blocks around it and those given here.
        """
        from ._tool import wrapped

        if function is None:
            return lambda function: wrapped(self, function, name, two_step, default, members)
        return wrapped(self, function, name, two_step, default, members)

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> AuditLog:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()


class Ending:
    """A call whose end is to be recorded: how long it took, and what it answered."""

    __slots__ = ("_began", "_call", "_log", "end", "result")

    def __init__(self, log: AuditLog, call: PreparedCall) -> None:
        self._log = log
        self._call = call
        self._began = time.perf_counter_ns()
        self.end: Receipt | None = None
        """The receipt of the end, once it is recorded."""
        self.result: Any = ...
        """What the tool answered; ``...`` while there is no answer."""

    def _record(self, call: PreparedCall) -> Receipt:
        """Records the call as one entry."""
        self.end = self._log.record(call)
        return self.end

    def _ended(self, result: Any, ends: dict[str, Any], default: Any) -> PreparedCall:
        if result is not ...:
            ends["result"] = result
        if ends.get("duration_ms") is None:
            ends["duration_ms"] = (time.perf_counter_ns() - self._began) / 1e6
        return self._call.ended(ends, default)

    def _ended_anyhow(self, error: BaseException | None, default: Any) -> PreparedCall:
        """The end as it can be kept: with the reason where the result cannot be."""
        if error is not None:
            return self._ended(..., {"error": error, "outcome": outcome_of(error)}, default)
        try:
            return self._ended(self.result, {}, default)
        except Exception as refused:
            return self._ended({"result_not_kept": str(refused)}, {}, default)

    def _record_anyhow(self, call: PreparedCall) -> Receipt:
        try:
            return self._record(call)
        except InputError as refused:
            # Too large as an entry: what it answered is not needed to know that it ended.
            return self._record(self._ended({"result_not_kept": str(refused)}, {}, None))


class Begun(Ending):
    """A call that was begun: say how it ended. As a context manager it records the end of its block, and ``result`` if it is set.

    What cannot be recorded as it is raises an error in ``finish`` and ``fail``; the end of a block is recorded in any case, with
    the reason in place of the result.
    """

    __slots__ = ("receipt",)

    def __init__(self, log: AuditLog, call: PreparedCall, receipt: Receipt) -> None:
        super().__init__(log, call)
        self.receipt = receipt
        """The receipt of the beginning."""

    def finish(self, result: Any = ..., *, default: Any = None, **ends: Any) -> Receipt:
        """Records the end: the call as it was begun, with its result, ``outcome`` and ``duration_ms`` if they do not follow, and ``approval``."""
        return self._record(self._ended(result, ends, default))

    def fail(self, error: BaseException | str | Mapping[str, Any], *, outcome: str | None = None, **ends: Any) -> Receipt:
        """Records that the tool failed: with an exception, a message, or a dict of ``type`` and ``message``."""
        return self.finish(error=error, outcome=outcome or outcome_of(error), **ends)

    def abandon(self, reason: str | None = None) -> Receipt:
        """Records that nobody will learn how the call ended."""
        return self.finish(outcome="abandoned", error=reason)

    async def finish_async(self, result: Any = ..., *, default: Any = None, **ends: Any) -> Receipt:
        """As ``finish``, without blocking the event loop; a cancellation is raised after the end is recorded."""
        return await although_cancelled(on_thread(self._record, self._ended(result, ends, default)))

    async def fail_async(
        self, error: BaseException | str | Mapping[str, Any], *, outcome: str | None = None, **ends: Any
    ) -> Receipt:
        """As ``fail``, without blocking the event loop."""
        return await self.finish_async(error=error, outcome=outcome or outcome_of(error), **ends)

    async def abandon_async(self, reason: str | None = None) -> Receipt:
        """As ``abandon``, without blocking the event loop."""
        return await self.finish_async(outcome="abandoned", error=reason)

    def _record(self, call: PreparedCall) -> Receipt:
        self.end = self._log.record_end(call, self.receipt.seq)
        return self.end

    def __enter__(self) -> Begun:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.end is None:
            self._record_anyhow(self._ended_anyhow(error, plain))

    async def __aenter__(self) -> Begun:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.end is None:
            await although_cancelled(on_thread(self._record_anyhow, self._ended_anyhow(error, plain)))


def outcome_of(error: Any) -> str | None:
    """The outcome of a call that ended with this: None where the log derives it."""
    if not isinstance(error, BaseException):
        return None
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"CancelledError", "KeyboardInterrupt", "SystemExit", "GeneratorExit"}:
        return "abandoned"
    return "timeout" if "TimeoutError" in names else "tool_error"


_OPEN: weakref.WeakSet[AuditLog] = weakref.WeakSet()


def _close_all() -> None:
    """Closes what the program left open, so that a checkpoint covers what it recorded."""
    for log in list(_OPEN):
        try:
            log.close()
        except ClosedError:
            pass
        except Error as error:
            print(f"attestlog: {error}", file=sys.stderr)


atexit.register(_close_all)
