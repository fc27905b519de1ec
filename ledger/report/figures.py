"""Every figure of a report that a signature or an inclusion proof covers, by name, as it is shown.

`figures.js` derives the same names and texts from the embedded statements, and a report is good only where all of them stand on
the page and none stands there otherwise. So what is computed here is computed there, and tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ledger import times
from ledger.report.facts import Declared, Facts, Run
from ledger.report.words import count, moment, share, span, visible
from ledger.statements.decided import set_root
from ledger.statements.statement import RunRecord


def figures(facts: Facts) -> dict[str, str]:
    """Name -> text. Runs and purposes are numbered from 0, in their order."""
    found: dict[str, str] = {}
    for number, run in enumerate(facts.runs):
        found |= {f"run.{number}.{name}": text for name, text in _of_run(run).items()}
    for number, declared in enumerate(facts.purposes.values()):
        found |= {f"purpose.{number}.{name}": text for name, text in _of_purpose(declared).items()}
    if len(facts.runs) > 1:
        found |= {f"all.{name}": text for name, text in _of_all(facts.runs).items()}
        found |= {f"run.{number}.number": count(number + 1) for number in range(len(facts.runs))}
    return found


def _of_run(run: Run) -> dict[str, str]:
    record = run.record
    found = {
        "id": visible(record.run_id if isinstance(record, RunRecord) else record.audit_id),
        "purpose": visible(record.purpose),
        "origin": visible(record.origin),
        "decided_at": moment(record.decided_at),
        "finished_at": moment(record.finished_at),
        "as_of": moment(times.parse(run.snapshot.act["as_of"])),
        "age": span(record.age_seconds),
        "max_age": span(record.max_age_seconds),
        "rows_kept": count(run.rows_kept),
        "shards": count(len(run.shards)),
        "set_root": set_root(record.digests),
        "snapshot_sha256": record.snapshot_sha256,
        "answers_sha256": record.answers_sha256,
        "tree_size": count(run.tree_size),
        "position": count(run.logged.position),
        "checkpoint_size": count(run.logged.checkpoint.size),
        **{f"dropped.{reason}": count(number) for reason, number in run.rows_dropped.items() if number},
        **{f"rests_on.{basis}": count(number) for basis, number in record.rests_on.items() if number},
        **{f"warning.{number}": visible(text) for number, text in enumerate(record.warnings)},
        **_some(recipient=record.recipient),
    }
    if isinstance(record, RunRecord):
        found |= {
            "rows_in": count(run.rows_in),
            "rows_dropped": count(run.rows_in - run.rows_kept),
            "share_kept": share(run.rows_kept, run.rows_in),
            "unmapped": count(record.unmapped),
        }
    for number, shard in enumerate(run.shards):
        of_shard = {"name": visible(shard.name), "sha256": shard.sha256, "rows_kept": count(shard.rows_kept)}
        if shard.rows_in is not None:
            of_shard["rows_in"] = count(shard.rows_in)
        found |= {f"shard.{number}.{name}": text for name, text in of_shard.items()}
    return found


def _of_purpose(declared: Declared) -> dict[str, str]:
    purpose = declared.purpose
    return {
        "reference": visible(purpose.reference),
        "declared_at": moment(declared.at),
        **_some(
            title=purpose.title,
            description=purpose.description,
            basis=purpose.basis,
            controller=purpose.controller,
            contact=purpose.contact,
            retention=purpose.retention,
            withdraw_url=purpose.withdraw_url,
        ),
        **{f"recipient.{number}": visible(text) for number, text in enumerate(purpose.recipients)},
        **{f"category.{number}": visible(text) for number, text in enumerate(purpose.categories)},
    }


def _of_all(runs: Sequence[Run]) -> Mapping[str, str]:
    rows_in, rows_kept = sum(run.rows_in for run in runs), sum(run.rows_kept for run in runs)
    return {
        "runs": count(len(runs)),
        "shards": count(sum(len(run.shards) for run in runs)),
        "rows_in": count(rows_in),
        "rows_kept": count(rows_kept),
        "rows_dropped": count(rows_in - rows_kept),
        "share_kept": share(rows_kept, rows_in),
    }


def _some(**texts: str | None) -> dict[str, str]:
    return {name: visible(text) for name, text in texts.items() if text is not None}
