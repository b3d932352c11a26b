"""What all adapters share: the calls that are open, and how they begin and end in the log.

Three things hold for every adapter.

* A call is begun on the disk before its tool runs. If it cannot be, the exception goes to the framework, which then does not run the
  tool (where it cannot be stopped, the adapter's own page says so).
* A call that was begun is ended once: with what the framework says of it, or as ``abandoned`` when its task is cancelled, the session
  ends, or more than ``Calls.LIMIT`` calls are open.
* What a framework does not say is left out.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import uuid
from collections import OrderedDict
from contextvars import ContextVar
from importlib import metadata
from typing import TYPE_CHECKING

from .. import InputError, although_cancelled, current, plain
from .._log import outcome_of
from .._wait import on_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any, Union

    from .. import AuditLog, Begun

    User = Union[str, Callable[[Any], "str | None"]]

# The most characters of a name or an id, and of an error's message: a model may have chosen them.
NAME, MESSAGE = 1_000, 4_000
# The members of a call that are names and ids.
_NAMES = (
    "tool_name", "call_id", "conversation_id", "user_id", "agent_id", "model", "tool_server", "parent_agent_id", "parent_call_id", "prompt_id",
)  # fmt: skip

NOT_RUN = "the model asked for the call, and the framework did not run it"
CANCELLED = "the task that waited for the call was cancelled"


class Calls:
    """The calls of one adapter: those that are open, by a key that the framework gives them, and those that a model has asked for.

    Who started the calls and to which conversation they belong is said by, in this order: the ``attestlog.session`` blocks around the
    run; the adapter's ``user_id`` (a text, or a function of the context that the framework gives its hooks) and ``conversation_id``;
    the framework. Without any conversation one is made up: the framework's name and random digits. ``members`` are the call's members
    where the framework says nothing else: ``agent_id``, ``model``, ``call_trigger``, ``purpose``, ``patient_ids``, ``session_metadata``.
    """

    # The most calls that are open, or asked for and not begun; beyond it the oldest is abandoned.
    LIMIT = 10_000

    def __init__(
        self, log: AuditLog, framework: str, user_id: User | None, conversation_id: str | None, members: Mapping[str, Any]
    ) -> None:
        self.log = log
        self._user = user_id
        self._conversation = conversation_id
        self._members = {name: value for name, value in members.items() if value is not None}
        self._made_up = f"{framework}-{uuid.uuid4().hex}"
        self._framework = {"framework": framework, **_version_of(framework)}
        self._open: OrderedDict[Any, OpenCall] = OrderedDict()
        self._asked: OrderedDict[Any, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def describe(self, tool_name: Any, context: Any = None, noted: Mapping[str, Any] | None = None, **said: Any) -> dict[str, Any]:
        """A call as the log takes it, from what the framework says; ``None`` says nothing. ``noted`` goes to the session's metadata."""
        around = current()
        call = {**self._members, **around, **{name: value for name, value in said.items() if value is not None}}
        call["tool_name"] = tool_name
        call["conversation_id"] = self.conversation(said.get("conversation_id"))
        given = self._user(context) if callable(self._user) else self._user
        call["user_id"] = around.get("user_id") or given or said.get("user_id")
        if not call["user_id"]:
            raise InputError("user_id: nobody says who started the call; give the adapter a `user_id`, or a function that finds it")
        call["session_metadata"] = {**(call.get("session_metadata") or {}), **self._framework, **(noted or {})}
        call.update({name: _name(call[name]) for name in _NAMES if name in call})
        return call

    def conversation(self, said: str | None) -> str:
        """The conversation of a call of which the framework says this."""
        return _name(current().get("conversation_id") or self._conversation or said or self._made_up)

    # ---- calls that run

    def begin(self, key: Any, call: dict[str, Any]) -> OpenCall:
        """Records the beginning; returns when it is on the disk."""
        opened = self.opened(key, call)
        self.start(opened)
        return opened

    def opened(self, key: Any, call: dict[str, Any]) -> OpenCall:
        """Puts a call that is about to be begun among the open ones."""
        opened = OpenCall(self.log, key, call)
        lost: list[tuple[OpenCall, str]] = []
        with self._lock:
            if (before := self._open.pop(key, None)) is not None:
                lost.append((before, "its id was used for another call"))
            if len(self._open) >= self.LIMIT:
                lost.append((self._open.popitem(last=False)[1], "more calls were open than the adapter follows"))
            self._open[key] = opened
        for old, why in lost:
            old.abandon(why)
        return opened

    def start(self, opened: OpenCall) -> None:
        """Records the beginning of an open call, and forgets the call if that fails."""
        try:
            opened.begin()
        except BaseException:
            self.forget(opened)
            raise

    def get(self, key: Any) -> OpenCall | None:
        """The open call with this key."""
        with self._lock:
            return self._open.get(key)

    def all(self) -> list[OpenCall]:
        """The open calls, the oldest first."""
        with self._lock:
            return list(self._open.values())

    def forget(self, opened: OpenCall) -> None:
        """Takes a call from the open ones."""
        with self._lock:
            if self._open.get(opened.key) is opened:
                del self._open[opened.key]

    def end(self, key: Any, **ending: Any) -> bool:
        """Ends the open call with this key; ``False`` if there is none."""
        with self._lock:
            opened = self._open.pop(key, None)
        return opened is not None and opened.end(**ending)

    def record(self, call: dict[str, Any], **ending: Any) -> None:
        """Records a call that was never begun: denied, unknown, or run by the model's provider."""
        OpenCall(self.log, None, call).end(**ending)

    def abandon(self, why: str, which: Callable[[OpenCall], bool] = lambda _: True) -> None:
        """Ends the open calls of which ``which`` is true, as abandoned."""
        with self._lock:
            lost = [opened for opened in self._open.values() if which(opened)]
            for opened in lost:
                del self._open[opened.key]
        for opened in lost:
            opened.abandon(why)

    # ---- calls that a model has asked for

    def ask(self, key: Any, call: dict[str, Any]) -> None:
        """Keeps a call that the model asked for, until a hook says what came of it. Nothing is recorded yet."""
        lost = []
        with self._lock:
            if key in self._asked:
                lost.append(self._asked.pop(key))
            if len(self._asked) >= self.LIMIT:
                lost.append(self._asked.popitem(last=False)[1])
            self._asked[key] = call
        for old in lost:
            self.record(old, outcome="abandoned", error=error("NotRun", NOT_RUN))

    def asked(self, key: Any) -> dict[str, Any] | None:
        """Takes a call that the model asked for: it runs now, or was answered without being run."""
        with self._lock:
            return self._asked.pop(key, None)

    def asked_all(self, which: Callable[[Any, dict[str, Any]], bool], most: int | None = None) -> list[dict[str, Any]]:
        """As ``asked``, for all calls of which ``which`` is true, the oldest first, or so many of them."""
        with self._lock:
            keys = [key for key, call in self._asked.items() if which(key, call)][:most]
            return [self._asked.pop(key) for key in keys]

    def unasked(self, why: str = NOT_RUN, which: Callable[[Any], bool] = lambda _: True) -> None:
        """Records what was asked for and not run, under the keys of which ``which`` is true, as abandoned."""
        with self._lock:
            calls = [self._asked.pop(key) for key in [key for key in self._asked if which(key)]]
        for call in calls:
            self.record(call, outcome="abandoned", error=error("NotRun", why))

    def close(self) -> None:
        """Abandons the calls that have not ended, and records those that the model asked for and nobody ran. The log stays open."""
        self.abandon("the session ended before the call did")
        self.unasked()


class OpenCall:
    """A call, from before its first entry to its last. Each is written once, by whichever thread comes first."""

    def __init__(self, log: AuditLog, key: Any, call: dict[str, Any]) -> None:
        self.key = key
        self.call = call
        # Whatever the adapter wants to keep as long as the call lasts.
        self.kept: Any = None
        self.ended = False
        self._log = log
        self._begun: Begun | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Records the beginning, unless the call has ended already."""
        with self._lock:
            if self.ended:
                return
            try:
                self._begun = self._log.begin(self.call, default=plain)
            except (InputError, TypeError, ValueError) as refused:
                # The tool does not run; that it was asked for can still be said, without what the log does not take.
                self.ended = True
                known = {name: value for name, value in self.call.items() if name != "arguments"}
                self._log.record(known, default=plain, outcome="denied", error=error("NotRecordable", refused))
                raise

    def end(self, **ending: Any) -> bool:
        """Records the end: ``result`` (``None`` is one), ``error``, ``outcome`` and other members. ``False`` if it had ended."""
        with self._lock:
            if self.ended:
                return False
            self.ended = True
            end = {name: value for name, value in ending.items() if value is not None or name == "result"}
            try:
                self._write(end)
            except (InputError, TypeError, ValueError) as refused:
                # What it answered is not needed to know that it ended.
                end["result"] = {"result_not_kept": str(refused)}
                self._write({name: value for name, value in end.items() if name != "result" or "error" not in end})
            return True

    def abandon(self, why: str) -> bool:
        """Ends the call as abandoned."""
        return self.end(outcome="abandoned", error=error("Abandoned", why))

    def _write(self, end: dict[str, Any]) -> None:
        if self._begun is not None:
            self._begun.finish(default=plain, **end)
        else:
            self._log.record({**self.call, **end}, default=plain)


async def off_loop(work: Callable[..., Any], *arguments: Any) -> Any:
    """Runs ``work`` on a thread, to its end although the waiting task is cancelled."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # another event loop than asyncio's
        return work(*arguments)
    return await although_cancelled(on_thread(work, *arguments))


async def begin_async(calls: Calls, key: Any, call: dict[str, Any]) -> OpenCall:
    """As ``Calls.begin``, without blocking the event loop. Cancelled meanwhile, it abandons the call and lets the cancellation go on."""
    opened = calls.opened(key, call)
    try:
        await off_loop(calls.start, opened)
    except asyncio.CancelledError:
        calls.forget(opened)
        await off_loop(opened.abandon, CANCELLED)
        raise
    return opened


def failed(e: BaseException) -> dict[str, Any]:
    """How a call ends in which the tool raised ``e``."""
    outcome = outcome_of(e)
    return {"outcome": outcome, "error": error("Abandoned", CANCELLED) if outcome == "abandoned" else error(type(e).__name__, e)}


def error(kind: str | None, message: Any) -> dict[str, str]:
    """An error as the log takes it."""
    text = str(message)[:MESSAGE] or "no message"
    return {"type": kind, "message": text} if kind else {"message": text}


# The call in which the present code runs, if an adapter could put itself around it.
INSIDE: ContextVar[OpenCall | None] = ContextVar("attestlog_inside", default=None)


async def around(
    calls: Calls,
    call: dict[str, Any],
    run: Callable[[], Awaitable[Any]],
    ended: Callable[[Any], dict[str, Any]] = lambda result: {"result": result},
    raised: Callable[[Exception], dict[str, Any]] = failed,
) -> Any:
    """Begins the call, awaits ``run()``, and records how it ended, whatever happens: what ``ended`` says of a result, and ``raised`` of
    an exception."""
    opened = await begin_async(calls, object(), call)
    end: dict[str, Any] = {"outcome": "abandoned", "error": error("Abandoned", CANCELLED)}
    inside = INSIDE.set(opened)
    try:
        result = await run()
        end = ended(result)
        return result
    except Exception as e:
        end = raised(e)
        raise
    finally:
        INSIDE.reset(inside)
        calls.forget(opened)
        await off_loop(lambda: opened.end(**end))


class Newest:
    """The newest values by key."""

    LIMIT = 10_000

    def __init__(self) -> None:
        self._values: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: Any, value: Any) -> None:
        """Keeps a value, and forgets the oldest if there are too many."""
        with self._lock:
            self._values[key] = value
            if len(self._values) > self.LIMIT:
                self._values.popitem(last=False)

    def get(self, key: Any) -> Any:
        """The value, or ``None``."""
        with self._lock:
            return self._values.get(key)

    def pop(self, key: Any) -> Any:
        """Takes the value, or ``None``."""
        with self._lock:
            return self._values.pop(key, None)


def parsed(arguments: Any) -> Any:
    """Arguments as a model wrote them: JSON text is read, and stays a text if it is none; nothing is no arguments."""
    if arguments is None or arguments == "":
        return {}
    if not isinstance(arguments, (str, bytes, bytearray)):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _name(value: Any) -> str:
    """A name or an id that the log takes: what cannot be part of one is escaped, and a long one is cut and told apart by its hash."""
    text = "(none)" if value is None or value == "" else str(value)
    if "\0" in text or not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")
    if len(text) > NAME:
        text = f"{text[:NAME]}…{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return text


def _version_of(distribution: str) -> dict[str, str]:
    for name in (distribution, f"{distribution}-slim"):
        try:
            return {"framework_version": metadata.version(name)}
        except metadata.PackageNotFoundError:
            continue
    return {}
