"""Receipts of entries that are at hand, as their files have them: the line, ended by a newline."""

from __future__ import annotations

from ledger.statements.receipt import act_receipt, event_receipt
from ledger.store.history import History
from ledger.store.opened import Opened


def of_event(history: History, opened: Opened, note: str | None = None) -> bytes:
    """note: a checkpoint that covers the event; None: the first that does."""
    assert opened.tag is not None
    opened.document()  # what is not canonical has no receipt
    return event_receipt(opened.canonical, opened.salt, opened.tag, history.proof(opened.position, note)) + b"\n"


def of_act(history: History, opened: Opened) -> bytes:
    return act_receipt(opened.document(), opened.salt, history.proof(opened.position)) + b"\n"
