"""The exceptions: one class for each kind of error of the engine. Each says what to do about it."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` takes longer to load than the rest of this package
if TYPE_CHECKING:
    from typing import Any


class Error(Exception):
    """What went wrong, in words; the class says what can be done about it.

    ``kind`` is the engine's name of the class, ``seq`` the entry that it is about, and ``place`` a dict with what is known of
    ``file``, ``call`` (of a batch, from 0), ``line``, ``column``, ``offset`` and ``member``.
    """

    kind: str = ""

    def __init__(self, message: str, *, seq: int | None = None, place: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.seq = seq
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (type(self), str(self), self.seq, self.place))


def _restored(kind: type[Error], message: str, seq: int | None, place: dict[str, Any] | None) -> Error:
    """An error as it was pickled in another process."""
    return kind(message, seq=seq, place=place)


class InputError(Error, ValueError):
    """The input is invalid; the message says where. Fix the input."""

    kind = "invalid_input"


class TooLargeError(InputError):
    """The input is larger than a limit; nothing of it was recorded. Send less."""

    kind = "too_large"


class NotFoundError(Error):
    """There is no store at that path. Create it, or fix the path."""

    kind = "not_found"


class AlreadyExistsError(Error):
    """Something already exists where a new store, key or copy would go. Choose another path."""

    kind = "already_exists"


class NotAStoreError(Error):
    """The file is not an attestlog store. Fix the path."""

    kind = "not_a_store"


class NewerFormatError(Error):
    """The store was written by another version. Upgrade the package; the message says more."""

    kind = "newer_format"


class LockedError(Error):
    """Another process has the store open and does not share it. Wait, or end it."""

    kind = "locked"


class DamagedError(Error):
    """The data on disk is inconsistent. ``verify`` says what is wrong; restore a backup."""

    kind = "damaged"


class DiskFullError(Error):
    """No room on the disk; nothing was recorded. Make room and try again."""

    kind = "disk_full"


class StorageError(Error):
    """The operating system reported an error, or the process that has the store open ended before it answered. The message says so
    if it is not known whether something was recorded: send numbered records again, look at the log for others."""

    kind = "io"


class KeyFileError(Error):
    """The key file is missing, unreadable or belongs to another store. Put the right one back."""

    kind = "key"


class BusyError(Error):
    """Not now: try again later. A query that a purge interrupted is asked again from its beginning."""

    kind = "busy"


class ClosedError(Error):
    """The log was closed, or it was opened before a fork: open it in this process. Whether a call was recorded is not known if it
    was under way when the log was closed."""

    kind = "closed"


class ConflictError(Error):
    """The request contradicts what is recorded, such as a number that was used for another call, or a call that has ended."""

    kind = "conflict"


class HistoryError(Error):
    """The store is not the history that its key file has signed: an older copy, or another log. Put the right one back, or restore
    this one with the program."""

    kind = "other_history"


class ClockFrozenError(Error):
    """Expiry is frozen until somebody confirms the clock."""

    kind = "clock_frozen"


class NoSuchEntryError(Error, LookupError):
    """Nothing with that number or name is recorded, or it was purged; the message says which."""

    kind = "no_such_entry"


class ReadOnlyError(Error):
    """The log is open for reading only. Open it for writing."""

    kind = "read_only"


class RecordedError(Error):
    """What was asked is done and recorded, up to the entry ``seq``; only its signature is missing and follows by itself. Do not
    repeat it."""

    kind = "recorded"


class NotRecordedError(Error):
    """A wrapped tool was run and its end could not be recorded; the cause says why. ``result`` is what the tool returned, and
    ``exception`` what it raised, so that it can be undone or kept elsewhere."""

    kind = "not_recorded"
    result: Any = None
    exception: BaseException | None = None


BY_KIND: dict[str, type[Error]] = {
    error.kind: error
    for error in (
        InputError,
        TooLargeError,
        NotFoundError,
        AlreadyExistsError,
        NotAStoreError,
        NewerFormatError,
        LockedError,
        DamagedError,
        DiskFullError,
        StorageError,
        KeyFileError,
        BusyError,
        ClosedError,
        ConflictError,
        HistoryError,
        ClockFrozenError,
        NoSuchEntryError,
        ReadOnlyError,
        RecordedError,
    )
}
