"""What a verification found, and what a proof shows."""

from __future__ import annotations

from ._native import check as _check

TYPE_CHECKING = False  # `typing` takes longer to load than the rest of this package
if TYPE_CHECKING:
    from typing import Any


class Verification:
    """The report of a verification; ``to_dict`` gives all of it."""

    __slots__ = ("_report",)

    def __init__(self, report: dict[str, Any]) -> None:
        self._report = report

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self._report["ok"]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Everything that is wrong, each with its kind and place."""
        return self._report["findings"]

    def to_dict(self) -> dict[str, Any]:
        """The whole report, as the program's ``verify --json`` prints it."""
        return self._report

    def __repr__(self) -> str:
        return f"<Verification ok={self.ok} findings={len(self.findings)}>"


class Checked:
    """What a proof shows to whoever has the log's public key. ``str()`` says it in words."""

    __slots__ = ("_shown",)

    def __init__(self, shown: dict[str, Any]) -> None:
        self._shown = shown

    @property
    def holds(self) -> bool:
        """Whether it shows what it claims. It may also show that an entry was purged."""
        return self._shown["holds"]

    def to_dict(self) -> dict[str, Any]:
        """What was proven, as the program's ``check --json`` prints it."""
        return self._shown["json"]

    def __str__(self) -> str:
        return self._shown["text"]

    def __repr__(self) -> str:
        return f"<Checked holds={self.holds}>"


def check(proof: str | bytes, public_key: str) -> Checked:
    """Checks a proof with nothing but the log's public key; needs no store.

    Raises ``InputError`` if it proves nothing, and says why.
    """
    return Checked(_check(proof, public_key))
