"""What `scale` measured, as docs/scale.md and a chart: `python -m tests.benchmarks.growth FOLDER`, of FOLDER/scale.json.

How much four billion people and a petabyte would take is computed from the largest ledger and snapshot that were measured: what
is linear there is taken to stay so, and the document says what is not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import Any
from xml.sax.saxutils import escape

PEOPLE = 4_000_000_000
ACTS = 1.1
"""Acts a person: what the measured ledger has."""
PETABYTE = 10**15
ROW = 160
"""Bytes of a row of the benchmark's shards, compressed: a post's text and its keys."""
DAY = 86_400
TERA, GIGA = 10**12, 10**9

Curve = Sequence[tuple[float, float]]


def write(measured: Mapping[str, Any], docs: Path) -> None:
    curves = {
        "import": [(one["millions"], 1e6 * one["import"]["seconds"] / one["import"]["events"]) for one in measured["ledger"]],
        **{
            name: [(one["millions"], one[name]["seconds"] / one["millions"]) for one in measured["ledger"] if name in one]
            for name in ("fsck", "compile")
        },
    }
    (docs / "scale.svg").write_text(chart(curves, "millions of events in the ledger", "µs an event"), encoding="utf-8")
    (docs / "scale.md").write_text("\n".join(lines(measured)) + "\n", encoding="utf-8")


def lines(measured: Mapping[str, Any]) -> list[str]:
    last, index = measured["ledger"][-1], measured["index"][-1]
    events, subjects = last["millions"] * 1e6, index["millions"] * 1e6
    of_event, of_subject = last["bytes"] / events, index["index_bytes"] / subjects
    file_of_subject = index["file_bytes"] / subjects
    acts = PEOPLE * ACTS
    seconds = {name: last[name]["seconds"] / events for name in ("fsck", "compile", "snapshot")}
    seconds["import"] = last["import"]["seconds"] / last["import"]["events"]
    rows = PETABYTE / ROW
    return [
        "# Scale",
        "",
        "Measured on one machine of two cores and 24 GiB with SQLite (`python -m tests.benchmarks.scale`), each figure by a",
        "process of its own. Times are from the wall's clock, of a machine that does other work as well.",
        "",
        "![Cost of an event, by the size of the ledger](scale.svg)",
        "",
        "| events | import, µs each | bytes each | fsck, s | compiled, s | published, s | peak, MiB "
        "| compiled again, s | published again, s | `show`, ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {one['millions']:g} M | {1e6 * one['import']['seconds'] / one['import']['events']:.0f} "
            f"| {one['bytes'] / one['millions'] / 1e6:.0f} | {_told(one, 'fsck', 'seconds')} "
            f"| {_told(one, 'compile', 'seconds')} | {_told(one, 'snapshot', 'seconds')} | {_told(one, 'snapshot', 'peak_mib')} "
            f"| {_told(one, 'again', 'compile_seconds', digits=1)} | {_told(one, 'again', 'seconds')} "
            f"| {_told(one, 'show', 'seconds', times=1e3, digits=1)} |"
            for one in measured["ledger"]
        ),
        "",
        *wrap(
            "Compiled: the answers in memory, every entry verified; again: after 1,000 more events, from the snapshot before "
            "and these. Published: with the set of subjects that the act commits to, hashed anew for everyone under a fresh "
            "seed, the file, and the act in the log. The extra `fast` was installed. An import costs more in a larger ledger: "
            "event ids and tags come in no order, and their indexes outgrow the database's cache.",
            120,
        ),
        "",
        "A snapshot alone, and the index that a filter makes of it:",
        "",
        "| subjects | file, bytes each | made, s | index, bytes each | index built, s | memory more, MiB |",
        "|---|---|---|---|---|---|",
        *(
            f"| {one['millions']:g} M | {one['file_bytes'] / one['millions'] / 1e6:.0f} | {one['freeze_seconds']:.1f} "
            f"| {one['index_bytes'] / one['millions'] / 1e6:.0f} | {one['index_seconds']:.1f} | {one['more_mib']:,} |"
            for one in measured["index"]
        ),
        "",
        "The index's bytes are with the ids' own text (12 bytes each here).",
        "",
        "## Four billion people, a petabyte of shards",
        "",
        *wrap(
            f"Computed from the largest that was measured ({last['millions']:g} M events, {index['millions']:g} M subjects), "
            f"{ACTS} acts a person and {ROW} bytes a row ({rows / 1e12:.1f} trillion rows). What is linear there is "
            "taken to stay so. The ids measured follow each other and compress well in a snapshot's file; others take more.",
            120,
        ),
        "",
        "| what | takes |",
        "|---|---|",
        f"| the ledger on disk | {acts * of_event / TERA:.1f} TB |",
        f"| importing all acts, one process | {acts * seconds['import'] / DAY:.1f} days |",
        f"| `fsck` | {acts * seconds['fsck'] / DAY:.1f} days |",
        f"| a snapshot compiled from the first event on | {acts * seconds['compile'] / DAY:.1f} days |",
        f"| its set of subjects, file and act | {acts * (seconds['snapshot'] - seconds['compile']) / DAY:.1f} days |",
        f"| the snapshot's file | {PEOPLE * file_of_subject / GIGA:.0f} GB |",
        f"| a filter's index in memory | {PEOPLE * of_subject / GIGA:.0f} GB |",
        f"| a selection: positions, 1 bit a row at most | {rows / 8 / GIGA:.0f} GB |",
        f"| a selection: digests of the shards' MiB blocks | {PETABYTE / 2**20 * 32 / GIGA:.0f} GB |",
        "",
        *wrap(
            "**What breaks first is memory.** A snapshot is compiled in memory, and the index over its subjects must fit "
            f"into that of each machine that filters: at {of_subject:.0f} bytes a subject 24 GiB hold "
            f"{24 * 2**30 / of_subject / 1e6:.0f} M "
            "of them. Next is time: one machine verifies and folds the log from its beginning. Disk is no limit: SQLite takes "
            "281 TB.",
            120,
        ),
        "",
        *wrap(
            "Before that point, split by people: a ledger, and with it a log, for each region or each part of the id space, and "
            "shards whose rows are of that part. A petabyte of shards divides among machines as it is (`--part`): shards are "
            "independent, and each machine's cost is that of its share, and of the index.",
            120,
        ),
    ]


def _told(one: Mapping[str, Any], what: str, figure: str, *, times: float = 1, digits: int = 0) -> str:
    found = one.get(what, {}).get(figure)
    return "not measured" if found is None else f"{times * found:,.{digits}f}"


def chart(curves: Mapping[str, Curve], across: str, up: str) -> str:
    """Lines over one axis each; both begin at 0."""
    left, top, wide, high = 70, 34, 520, 260
    most_x = max(x for curve in curves.values() for x, _ in curve)
    most_y = 20 * ceil(max(y for curve in curves.values() for _, y in curve) / 20)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + wide + 110} {top + high + 60}" '
        'font-family="system-ui, sans-serif" font-size="14" role="img">',
        f"<title>{escape(up)}, by {escape(across)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for step in range(5):
        y = top + high - high * step / 4
        parts += [
            f'<line x1="{left}" x2="{left + wide}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d0d7de"/>',
            f'<text x="{left - 8}" y="{y + 5:.1f}" text-anchor="end" fill="#57606a">{most_y * step / 4:.0f}</text>',
        ]
    for number, (name, curve) in enumerate(curves.items()):
        colour = ("#2f6f9f", "#b35900", "#3d7d3d", "#8250df")[number % 4]
        points = [(left + wide * x / most_x, top + high - high * y / most_y) for x, y in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        parts.append(f'<text x="{x + 10:.1f}" y="{y + 5:.1f}" fill="{colour}">{escape(name)}</text>')
    for x_value in sorted({x for curve in curves.values() for x, _ in curve}):
        x = left + wide * x_value / most_x
        parts.append(f'<text x="{x:.1f}" y="{top + high + 20}" text-anchor="middle" fill="#57606a">{x_value:g}</text>')
    parts += [
        f'<text x="{left + wide / 2}" y="{top + high + 44}" text-anchor="middle" fill="#1b1f24">{escape(across)}</text>',
        f'<text x="{left - 60}" y="{top - 16}" fill="#1b1f24">{escape(up)}</text></svg>',
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    measured = json.loads((Path(sys.argv[1]) / "scale.json").read_text(encoding="utf-8"))
    write(measured, Path(__file__).resolve().parents[2] / "docs")


if __name__ == "__main__":
    main()
