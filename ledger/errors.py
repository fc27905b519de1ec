"""Every error that leaves the library: one root, each with its exit code and a hint that says what to do next."""

from __future__ import annotations


class ConsentLedgerError(Exception):
    """The operation failed and nothing is known: no consent may be concluded from it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), self.hint)


def _rebuild(kind: type[ConsentLedgerError], message: str, hint: str | None) -> ConsentLedgerError:
    return kind(message, hint=hint)


class UsageError(ConsentLedgerError):
    """What was asked for cannot be asked: an unknown purpose, a column that is not there, a value out of place."""

    exit_code = 2


class InvalidEvent(UsageError):
    """The act does not say what an act must say; it was not recorded."""


class EventConflict(InvalidEvent):
    """Another act is recorded under the event's id."""


class Suppressed(InvalidEvent):
    """A yes of someone who was erased, given before that: an erasure is not undone by what comes in late."""


class LedgerBusy(ConsentLedgerError):
    """Another process holds the lock that is needed to write."""


class ShardError(ConsentLedgerError):
    """A shard cannot be read, carried exactly, or published."""


class SnapshotError(ConsentLedgerError):
    """The snapshot is missing, unreadable, stale or not the one that was asked for."""


class IntegrityError(ConsentLedgerError):
    """Stored bytes are not what was signed: a digest, a proof, a signature or the log's history does not hold."""

    exit_code = 4


class VerificationError(IntegrityError):
    """A document from outside does not prove what it claims."""
