"""The report for programs: JSON-LD whose terms are other people's, and which needs no network to be read.

- Fields of a consent record (ISO/IEC TS 27560:2023) in terms of the Data Privacy Vocabulary 2, by its own guide
  to that specification. They are about a run, not about a person: counts stand where a record has one person's events.
- A fragment of Croissant 1.0 (files with their digests) with fields of Croissant RAI 1.0. What it needs besides to be a whole
  description (licence, address, creator, date of publication, record sets) a ledger does not know.
- Figures for the AI Office's template of the summary of training content (AI Act, Article 53(1)(d)), sections 2.4 and 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ledger import times
from ledger.consent import NO, YES, split_purpose
from ledger.report.facts import Acts, Declared, Facts, Run, counted
from ledger.report.words import BASES, REASONS, count, visible
from ledger.statements.decided import set_root

CONTEXT: Mapping[str, Any] = {
    "dpv": "https://w3id.org/dpv#",
    "ai": "https://w3id.org/dpv/ai#",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "ledger": "urn:consent-ledger:report:v1#",
    "dct:created": {"@type": "xsd:dateTime"},
    "dct:date": {"@type": "xsd:dateTime"},
}
_DATASET_CONTEXT = {"@vocab": "https://schema.org/"}
"""Of the Croissant fragment, whose own terms are schema.org's."""

_STATES = {
    "given": "dpv:ConsentGiven",
    "renewed": "dpv:RenewedConsentGiven",
    "refused": "dpv:ConsentRefused",
    "withdrawn": "dpv:ConsentWithdrawn",
    "objected": "dpv:ObjectingToProcess",
    "revoked": "dpv:ConsentRevoked",
}
"""An objection is an involvement in DPV, and no status of a consent."""


def document(facts: Facts) -> dict[str, Any]:
    return {
        "@context": dict(CONTEXT),
        "@type": "ledger:Report",
        "dct:created": times.text(facts.made_at),
        "ledger:log": facts.origin,
        "ledger:logSize": facts.size,
        "ledger:run": [_run(facts, run, number) for number, run in enumerate(facts.runs)],
    }


def _run(facts: Facts, run: Run, number: int) -> dict[str, Any]:
    declared = facts.purposes[run.record.purpose]
    token = split_purpose(run.record.purpose)[0]
    acts, dataset = facts.acts[token], f"_:dataset{number}"
    return {
        "@type": "ledger:Run" if run.is_run else "ledger:Audit",
        "dct:identifier": _id(run),
        "dct:date": times.text(run.record.decided_at),
        "ledger:statementSha256": run.logged.act["statement_sha256"],
        "ledger:process": _process(run, declared, acts, dataset),
        "ledger:dataset": _dataset(run, declared, dataset),
        "ledger:trainingContentSummary": _summary(facts, run, token, acts),
    }


def _process(run: Run, declared: Declared, acts: Acts, dataset: str) -> dict[str, Any]:
    purpose = declared.purpose
    states = counted(acts)
    found: dict[str, Any] = {
        "@type": "dpv:Process",
        "dpv:hasPurpose": {
            "@type": "dpv:Purpose",
            "dct:identifier": purpose.reference,
            "dct:title": purpose.title,
            "dct:description": purpose.description,
        },
        "dpv:hasProcessing": {"@id": "dpv:Use"},
        "ai:hasTrainingData": {"@id": dataset},
        "dpv:hasLegalBasis": {"@id": "dpv:Consent"} if purpose.basis == "consent" else {"@id": "dpv:LegalBasis"},
        "dpv:hasPersonalData": [{"@type": "dpv:PersonalData", "dct:title": category} for category in purpose.categories]
        or [{"@type": "dpv:PersonalData"}],
        "dpv:hasConsentStatus": [
            {"@type": _STATES[state], "ledger:acts": number} for state, number in states.items() if state != "objected"
        ],
    }
    if "objected" in states:
        found["dpv:hasInvolvement"] = [{"@type": _STATES["objected"], "ledger:acts": states["objected"]}]
    if purpose.controller is not None or purpose.contact is not None:
        found["dpv:hasDataController"] = {
            "@type": "dpv:DataController",
            **({} if purpose.controller is None else {"dpv:hasName": purpose.controller}),
            **({} if purpose.contact is None else {"dpv:hasContact": purpose.contact}),
        }
    recipients = [*purpose.recipients, *([] if run.record.recipient in (None, *purpose.recipients) else [run.record.recipient])]
    if recipients:
        found["dpv:hasRecipient"] = [{"@type": "dpv:Recipient", "dpv:hasName": name} for name in recipients]
    if purpose.retention is not None:
        found["dpv:hasStorageCondition"] = {"@type": "dpv:StorageDuration", "dct:description": purpose.retention}
    if purpose.withdraw_url is not None:
        found["dpv:hasConsentControl"] = {"@type": "dpv:WithdrawConsent", "dpv:isExercisedAt": purpose.withdraw_url}
    if acts.notices:
        found["dpv:hasNotice"] = [
            {"@type": "dpv:ConsentNotice", "dct:identifier": name, "dct:language": name.rpartition("/")[2], "ledger:acts": number}
            for name, number in sorted(acts.notices.items())
        ]
    return found


def _dataset(run: Run, declared: Declared, dataset: str) -> dict[str, Any]:
    record = run.record
    left_out = ", ".join(f"{count(number)} {reason}" for reason, number in run.rows_dropped.items())
    kept = (
        f"{count(run.rows_kept)} of {count(run.rows_in)} rows were kept"
        if run.is_run
        else f"all {count(run.rows_kept)} rows were allowed"
    )
    bases = ", ".join(f"{count(record.rests_on[basis])} {basis}" for basis in BASES if record.rests_on.get(basis))
    return {
        "@context": _DATASET_CONTEXT,
        "@id": dataset,
        "@type": "Dataset",
        "name": visible(run.name),
        "description": f"Shards for the purpose {declared.purpose.reference} ({declared.purpose.title}): {kept}.",
        "dateCreated": times.text(record.finished_at),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": f"{dataset}-file{number}",
                "name": shard.name,
                "contentUrl": quote(shard.name),
                "encodingFormat": "application/vnd.apache.parquet",
                "sha256": shard.sha256,
            }
            for number, shard in enumerate(run.shards)
        ],
        "ledger:setRoot": set_root(record.digests),
        "rai:dataUseCases": [declared.purpose.description],
        "rai:dataPreprocessingProtocol": [
            "Rows were kept only where a yes of every person they concern was in force, and no later no stood against it"
            + (f"; left out: {left_out}." if left_out else ".")
        ],
        "rai:dataCollection": f"What the yeses rest on, in rows: {bases or 'no row was kept'}.",
    }


def _summary(facts: Facts, run: Run, token: str, acts: Acts) -> list[dict[str, Any]]:
    """Figures alone; what the template asks for in words is for the provider to say."""
    record, dropped, no = run.record, run.rows_dropped, facts.unanswered[token]
    said = counted(acts)
    signed = [
        ("2.4", "rows_kept", run.rows_kept, "Rows of people's content that were kept for training."),
        *(
            (
                "2.4",
                f"rows_kept.{basis}",
                record.rests_on[basis],
                f"Of the rows kept, those whose yes rests on: {BASES[basis][0].lower()}.",
            )
            for basis in BASES
            if record.rests_on.get(basis)
        ),
    ]
    if run.is_run:
        signed += [
            ("2.4", "rows_in", run.rows_in, "Rows of people's content that were looked at."),
            ("3.1", "rows_dropped", run.rows_in - run.rows_kept, "Rows left out before training, in all."),
            (
                "3.1",
                "rows_dropped.no",
                sum(dropped.get(state, 0) for state in NO),
                "Rows left out because a person had said no (refused, withdrawn, objected, revoked).",
            ),
            *(
                ("3.1", f"rows_dropped.{reason}", dropped[reason], REASONS[reason][1])
                for reason in REASONS
                if dropped.get(reason)
            ),
        ]
    known = [
        (
            "2.4",
            "acts.yes",
            sum(said.get(state, 0) for state in YES),
            "Times that people have said yes to the purpose, in any version.",
        ),
        (
            "3.1",
            "acts.no",
            sum(said.get(state, 0) for state in NO),
            "Times that people have said no to the purpose, in any version.",
        ),
    ]
    if no is not None:
        waited = (facts.made_at - no.recorded_at).days
        known.append(("3.1", "oldest_unanswered_no.days", waited, "Days that the oldest no has waited for a run that heeds it."))
    return [
        {
            "@type": "sc:PropertyValue",
            "ledger:section": section,
            "sc:name": name,
            "sc:value": value,
            "sc:description": text,
            "ledger:signed": is_signed,
        }
        for figures, is_signed in ((signed, True), (known, False))
        for section, name, value, text in figures
    ]


def _id(run: Run) -> str:
    record: Any = run.record
    return str(record.run_id if run.is_run else record.audit_id)
