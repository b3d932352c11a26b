"""What usual values of Python are in JSON."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `typing` takes longer to load than the rest of this package
if TYPE_CHECKING:
    from typing import Any


def plain(value: Any) -> Any:
    """What stands in the log for a value that is no JSON: to be given as ``default``, as that of ``json.dumps`` is.

    Dates, times and UUIDs become their text, members of enumerations their value, sets a list, bytes their number and SHA-256,
    dataclasses, attrs and pydantic models a dict, arrays of numpy a list; whatever else, the name of its class alone.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _digest(bytes(value))
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=lambda item: (type(item).__name__, str(item)))
    if isinstance(value, BaseException):
        return {"type": type(value).__qualname__, "message": str(value)}
    # Asked of the class: an object that makes up members when they are asked for, as mocks do, has none of these.
    kind = type(value)
    for method in ("isoformat", "model_dump", "__fspath__"):
        if callable(getattr(kind, method, None)):
            return getattr(value, method)()
    if _is(value, "enum", "Enum"):
        return value.value
    if _is(value, "uuid", "UUID") or _is(value, "decimal", "Decimal") or _is(value, "fractions", "Fraction"):
        return str(value)
    if _is(value, "datetime", "timedelta"):
        return value.total_seconds()
    if _is(value, "collections.abc", "Mapping"):
        return dict(value)
    for names in (getattr(kind, "__dataclass_fields__", None), getattr(kind, "__attrs_attrs__", None)):
        if names is not None:
            fields = [name if isinstance(name, str) else name.name for name in names]
            return {name: getattr(value, name) for name in fields if hasattr(value, name)}
    # Arrays and numbers of numpy.
    if callable(getattr(kind, "tolist", None)):
        return value.tolist()
    # Its `repr` might show what must not be stored.
    return {"class": f"{kind.__module__}.{kind.__qualname__}"}


def _is(value: Any, module: str, name: str) -> bool:
    """Whether a value is of this class, of a module that is not loaded for the question."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _digest(value: bytes) -> dict[str, Any]:
    import hashlib

    return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
