"""Why a file cannot be had. Each text is a whole sentence, safe to show, that says what to do.

TransferError
├── Refused        it may not be had: asking again changes nothing
├── Damaged        what came is not what was meant
├── NoRoom         it does not fit
└── Unreachable    the other side did not answer; later it may
"""

from __future__ import annotations

from typing import ClassVar


class TransferError(Exception):
    """A file cannot be had.

    Attributes:
        retryable: Whether the same request may succeed when it is made again unchanged.
    """

    retryable: ClassVar[bool] = False


class Refused(TransferError):
    """A rule of the operator or the other side forbids it, or it is not there."""


class Damaged(TransferError):
    """Wrong hash, wrong length, or no model file at all."""


class NoRoom(TransferError):
    """More bytes than are allowed or than the disk has."""


class Unreachable(TransferError):
    """No answer, too many requests, or an answer that broke off, in every attempt."""

    retryable: ClassVar[bool] = True


class Transient(Exception):
    """One attempt failed; the next one may not.

    Attributes:
        wait_s: How long the other side asks to wait; None: it did not say.
    """

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Ended(Exception):
    """The transfer was ended from outside: nobody waits for it any more."""
