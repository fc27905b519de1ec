"""What an export says in words, of acts, decisions and runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger import person, times
from ledger.consent import ALL_PURPOSES, Event, Purpose
from ledger.exporting.gathering import Run, said_by_rows
from ledger.report.words import REASONS, moment, visible

_SAID: Mapping[str, str] = {
    "given": "Yes",
    "renewed": "Yes, renewed",
    "refused": "No",
    "withdrawn": "No: whatever yes there was is taken back",
    "objected": "No: an objection",
    "revoked": "No, said by someone other than the person",
}
_ALLOWED = "A yes is in force, and no later no stands against it."
_ACTORS: Mapping[str, str] = {
    "subject": "the person",
    "guardian": "a guardian of the person",
    "controller": "the organisation that runs the service",
    "authority": "an authority",
}


def answer(event: Event) -> str:
    return _SAID[event.state]


def actor(event: Event) -> str:
    return _ACTORS[event.actor]


def about(category: str | None, content_id: str | None) -> str:
    """What an act or a decision speaks of."""
    if content_id is not None:
        of = "" if category is None else f" of the kind “{visible(category)}”"
        return f"the item “{visible(content_id)}”{of}"
    return "everything" if category is None else f"everything of the kind “{visible(category)}”"


def purposes(event: Event, known: Mapping[str, Purpose]) -> list[str]:
    """By title, with the version."""
    if ALL_PURPOSES in event.purposes:
        return ["all purposes"]
    return [f"{visible(known[p].title)} ({visible(p)})" for p in event.purposes]


def decision(found: Mapping[str, Any]) -> str:
    return f"{'Yes' if found['allowed'] else 'No'}. {why(found)}"


def why(found: Mapping[str, Any]) -> str:
    return _ALLOWED if found["allowed"] else REASONS[found["reason"]][1]


def run(ran: Run, subject_id: str, purpose: Purpose) -> list[str]:
    """What the ledger decided for the person in a run, and whether anything of theirs is in its output."""
    record = ran.record
    said = [f"The rows were decided on {moment(record.decided_at)}, by what the ledger knew up to {_up_to(ran)}."]
    if ran.known is None:
        said.append("What it knew of this person then is not proven here.")
    elif not ran.known:
        said.append("It knew nothing of this person then. Silence is no.")
    else:
        events = said_by_rows(ran.known, subject_id, purpose)
        for found in person.of_purpose(purpose, subject_id, events, None, record.decided_at):
            said.append(f"Of {about(found['category'], found['content_id'])} it decided: {decision(found)}")
    if ran.rows is None:
        said.append("Whether anything of theirs is in the output is not proven here.")
    elif ran.rows:
        said.append(f"In the output {ran.rows:,} {'row is' if ran.rows == 1 else 'rows are'} of this person.")
    else:
        said.append("In the output nothing is of this person.")
    if ran.rows and ran.known == []:
        said.append("That should not be: rows of theirs were kept though nothing of them was known. Ask the operator why.")
    return [*said, *ran.missing]


def _up_to(ran: Run) -> str:
    return moment(times.parse(ran.snapshot.act["as_of"]))
