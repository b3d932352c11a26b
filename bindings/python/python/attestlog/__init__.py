"""attestlog: an audit log for the tool calls of AI agents, in one file that proves that nothing in it was changed.

    import attestlog

    with attestlog.AuditLog.open_or_create("audit.log") as log:
        log.record(conversation_id="conv_1", user_id="usr_7", tool_name="lookup", arguments={"order_id": "o-1"}, result=True)
        for entry in log.query(user="usr_7", newest_first=True, limit=10):
            print(entry.line)
"""

from ._errors import (
    AlreadyExistsError,
    BusyError,
    ClockFrozenError,
    ClosedError,
    ConflictError,
    DamagedError,
    DiskFullError,
    Error,
    HistoryError,
    InputError,
    KeyFileError,
    LockedError,
    NewerFormatError,
    NoSuchEntryError,
    NotAStoreError,
    NotFoundError,
    NotRecordedError,
    ReadOnlyError,
    RecordedError,
    StorageError,
    TooLargeError,
)
from ._log import AuditLog, Begun, current, outcome_of, session
from ._native import Entries, Entry, PreparedCall, Receipt, Timeline
from ._plain import plain
from ._proofs import Checked, Verification, check
from ._wait import although_cancelled

__all__ = [
    "AlreadyExistsError",
    "AuditLog",
    "Begun",
    "BusyError",
    "Checked",
    "ClockFrozenError",
    "ClosedError",
    "ConflictError",
    "DamagedError",
    "DiskFullError",
    "Entries",
    "Entry",
    "Error",
    "HistoryError",
    "InputError",
    "KeyFileError",
    "LockedError",
    "NewerFormatError",
    "NoSuchEntryError",
    "NotAStoreError",
    "NotFoundError",
    "NotRecordedError",
    "PreparedCall",
    "ReadOnlyError",
    "Receipt",
    "RecordedError",
    "StorageError",
    "Timeline",
    "TooLargeError",
    "Verification",
    "although_cancelled",
    "check",
    "current",
    "outcome_of",
    "plain",
    "session",
]

__version__ = "0.1.0.dev0"
