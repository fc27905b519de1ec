"""What a person is shown of a purpose before they answer, as text. The page shows these words and no others.

The same purpose in the same words of one language is the same text: its digest tells whether what was shown still holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from ledger.consent import Purpose
from ledger.store.append import Transaction
from ledger.web.words import Words


@dataclass(frozen=True)
class Fact:
    """link: an address that ends the text."""

    label: str
    text: str
    link: str | None = None


@dataclass(frozen=True)
class Notice:
    """notice_id: what the ledger keeps it under. purpose: token@version."""

    notice_id: str
    purpose: str
    language: str
    title: str
    description: str
    facts: Sequence[Fact]

    def text(self) -> bytes:
        parts = [self.title, self.description]
        parts += [f"{fact.label}\n{fact.text}" + (f" {fact.link}" if fact.link else "") for fact in self.facts]
        return ("\n\n".join(parts) + "\n").encode()

    @property
    def sha256(self) -> str:
        return sha256(self.text()).hexdigest()


def notice_of(purpose: Purpose, words: Words) -> Notice:
    say = words["ask"]
    who = ", ".join(part for part in (purpose.controller, purpose.contact) if part)
    link = purpose.withdraw_url
    facts = (
        Fact(say["kinds"], ", ".join(purpose.categories) or say["kinds_all"]),
        Fact(say["responsible"], who or say["responsible_unknown"]),
        Fact(say["recipients"], "; ".join(purpose.recipients) or say["recipients_none"]),
        Fact(say["retention"], purpose.retention or say["retention_unknown"]),
        Fact(say["if_yes"], say["if_yes_text"]),
        Fact(say["if_no"], say["if_no_text"]),
        Fact(say["take_back"], say["take_back_link"] if link else say["take_back_text"], link),
    )
    return Notice("ask." + purpose.token, purpose.reference, words.language, purpose.title, purpose.description, facts)


def keep(tx: Transaction, notice: Notice, recorded_by: str) -> str:
    """Its full reference. The same text again is kept once; another one under the same id is its next version."""
    same_id = [a for a in tx.notices if a["notice_id"] == notice.notice_id and a["language"] == notice.language]
    versions = [act["version"] for act in same_id if act["sha256"] == notice.sha256]
    version = versions[0] if versions else len(same_id) + 1
    if not versions:
        fields = {"notice_id": notice.notice_id, "version": version, "language": notice.language, "sha256": notice.sha256}
        tx.act("notice_declared", recorded_by, **fields)
        tx.keep_text(notice.sha256, notice.text())
    return f"{notice.notice_id}@{version}/{notice.language}"
