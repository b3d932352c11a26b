"""Functions whose calls are recorded, however they end."""

from __future__ import annotations

import functools
import inspect

from ._errors import Error, NotRecordedError
from ._log import Begun, Ending, current
from ._wait import although_cancelled, on_thread

TYPE_CHECKING = False  # `typing` takes longer to load than the rest of this package
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._log import AuditLog
    from ._native import PreparedCall


class _Tool:
    """What all kinds of functions share: how a call begins and how it ends."""

    def __init__(
        self, log: AuditLog, function: Callable[..., Any], name: str | None, two_step: bool, default: Any, members: dict[str, Any]
    ) -> None:
        self.log = log
        self.name = name or function.__name__
        self.two_step = two_step
        self.default = default
        self.members = members
        self.signature = inspect.signature(function)

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PreparedCall:
        try:
            bound = self.signature.bind(*args, **kwargs).arguments
            arguments = {name: value for name, value in bound.items() if name not in ("self", "cls")}
        except TypeError:
            # Not what the function takes: it will say so itself, and that is recorded.
            arguments = {"args": args, "kwargs": kwargs}
        members = {**current(), **self.members, "tool_name": self.name, "arguments": arguments}
        return self.log.prepare(members, default=self.default)

    def begin(self, prepared: PreparedCall) -> Ending:
        if self.two_step:
            return Begun(self.log, prepared, self.log.record_begin(prepared))
        return Ending(self.log, prepared)

    async def begin_async(self, prepared: PreparedCall) -> Ending:
        return await self.log.begin_async(prepared) if self.two_step else Ending(self.log, prepared)

    def end(self, call: Ending, error: BaseException | None) -> None:
        try:
            call._record_anyhow(call._ended_anyhow(error, self.default))
        except Error as failed:
            raise _not_recorded(call, error, failed) from failed

    async def end_async(self, call: Ending, error: BaseException | None) -> None:
        try:
            await although_cancelled(on_thread(call._record_anyhow, call._ended_anyhow(error, self.default)))
        except Error as failed:
            raise _not_recorded(call, error, failed) from failed


def _not_recorded(call: Ending, error: BaseException | None, failed: Error) -> NotRecordedError:
    raised = NotRecordedError(f"the call was made, but its end could not be recorded: {failed}", seq=failed.seq)
    raised.result = None if call.result is ... else call.result
    raised.exception = error
    return raised


def wrapped(
    log: AuditLog, function: Any, name: str | None, two_step: bool, default: Any, members: dict[str, Any]
) -> Callable[..., Any]:
    """The function, with every call of it recorded."""
    tool = _Tool(log, function, name, two_step, default, members)
    if inspect.isasyncgenfunction(function):
        return _async_generator(tool, function)
    if inspect.isgeneratorfunction(function):
        return _generator(tool, function)
    if inspect.iscoroutinefunction(function):
        return _async(tool, function)
    return _sync(tool, function)


def _sync(tool: _Tool, function: Any) -> Any:
    @functools.wraps(function)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        call = tool.begin(tool.prepare(args, kwargs))
        try:
            call.result = function(*args, **kwargs)
        except BaseException as error:
            tool.end(call, error)
            raise
        tool.end(call, None)
        return call.result

    return recorded


def _async(tool: _Tool, function: Any) -> Any:
    @functools.wraps(function)
    async def recorded(*args: Any, **kwargs: Any) -> Any:
        call = await tool.begin_async(tool.prepare(args, kwargs))
        try:
            call.result = await function(*args, **kwargs)
        except BaseException as error:
            await tool.end_async(call, error)
            raise
        await tool.end_async(call, None)
        return call.result

    return recorded


# The call begins when the first item is asked for, and ends when the generator does. Its result is the number of items.
def _generator(tool: _Tool, function: Any) -> Any:
    @functools.wraps(function)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        call = tool.begin(tool.prepare(args, kwargs))
        call.result = {"items": 0}
        try:
            returned = yield from _counted(function(*args, **kwargs), call.result)
        except BaseException as error:
            tool.end(call, error)
            raise
        tool.end(call, None)
        return returned

    return recorded


def _counted(items: Any, count: dict[str, int]) -> Any:
    """The items of a generator, counted; what is sent or thrown in goes through."""
    sent = None
    try:
        item = next(items)
        while True:
            count["items"] += 1
            try:
                sent = yield item
            except GeneratorExit:
                items.close()
                raise
            except BaseException as error:
                item = items.throw(error)
            else:
                item = items.send(sent)
    except StopIteration as stopped:
        return stopped.value


def _async_generator(tool: _Tool, function: Any) -> Any:
    @functools.wraps(function)
    async def recorded(*args: Any, **kwargs: Any) -> Any:
        call = await tool.begin_async(tool.prepare(args, kwargs))
        call.result = {"items": 0}
        items = function(*args, **kwargs)
        try:
            async for item in items:
                call.result["items"] += 1
                yield item
        except BaseException as error:
            await items.aclose()
            await tool.end_async(call, error)
            raise
        await tool.end_async(call, None)

    return recorded
