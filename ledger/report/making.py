"""`ledger.report_on`: a report of runs and audits, from their statements and the ledger that they are of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ledger.book import Ledger
from ledger.errors import ConsentLedgerError
from ledger.log.trust import Trust
from ledger.objects import Place
from ledger.report import linked
from ledger.report.facts import Facts, gather, open_runs


@dataclass(frozen=True)
class Report:
    """What is known of some runs and audits, for people or for programs."""

    facts: Facts

    def html(self) -> str:
        """One page that loads nothing. Needs Jinja2, of the extra `web`: raises ConsentLedgerError without it."""
        try:
            from ledger.report import page
        except ModuleNotFoundError as error:
            raise ConsentLedgerError(
                f"a report in HTML needs the package {error.name}", hint="install it with pip install 'consent-ledger[web]'"
            ) from error
        return page.html(self.facts)

    def jsonld(self) -> dict[str, Any]:
        """schemas/report.json: a consent record in DPV's terms, a Croissant fragment, figures for the AI Act's summary."""
        return linked.document(self.facts)


def report_on(
    book: Ledger, *runs: str | Place, trust: Trust | None = None, on_progress: Callable[[int, int], None] | None = None
) -> Report:
    """A report on folders of shards, or on their `*.intoto.jsonl` statements. The shards are not looked at.

    trust: whose keys count; None: the ledger's own. on_progress: entries of the log read, entries in all.
    Raises VerificationError for a statement that does not hold or is not in the log, UsageError for one of another ledger.
    """
    opened = open_runs(runs, book.trust if trust is None else trust)
    work = partial(gather, runs=opened, anchors=book.folder.read_anchors(), on_progress=on_progress)
    facts: Facts = book.read(work, as_it_stands=True)
    return Report(facts)
