"""Acts in short, a column each, with all that their rows of the database hold but where they come to stand in the log.

None of it depends on what the log holds. Whether they may be recorded does, and that is for the writer to say.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ledger.consent import lookalike
from ledger.log.entry import SALT_BYTES, event_body, event_entry
from ledger.store.short import Short


class Prepared(NamedTuple):
    """One at least. moments: the occurred_at, as they are written."""

    event_ids: Sequence[str]
    subject_ids: Sequence[str]
    lookalikes: Sequence[str]
    states: Sequence[str]
    categories: Sequence[str | None]
    content_ids: Sequence[str | None]
    moments: Sequence[str]
    canonical: Sequence[bytes]
    salts: Sequence[bytes]
    tags: Sequence[bytes]
    bodies: Sequence[bytes]
    entries: Sequence[bytes]


def prepared(shorts: Sequence[Short | None], tag: Callable[[str], bytes]) -> Prepared | None:
    """None where one must be looked at as a whole, or there is none. tag: of a subject."""
    if not shorts or None in shorts:
        return None
    forms, subject_ids, event_ids, content_ids, moments, canonical = zip(*shorts, strict=True)
    random = secrets.token_bytes(SALT_BYTES * len(shorts))
    salts = [random[at : at + SALT_BYTES] for at in range(0, len(random), SALT_BYTES)]
    tags = list(map(tag, subject_ids))
    bodies = list(map(event_body, salts, canonical))
    return Prepared(
        event_ids,
        subject_ids,
        list(map(lookalike, subject_ids)),
        [form.state for form in forms],
        [form.category for form in forms],
        content_ids,
        moments,
        canonical,
        salts,
        tags,
        bodies,
        list(map(event_entry, tags, bodies)),
    )
