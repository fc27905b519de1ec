"""What was measured, as docs/benchmarks/README.md and a chart."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

Ratio = tuple[str, float, float]
"""What was measured, how often ours is done in the time of the other side, and the goal."""

_REWRITES = {
    "plain": ("the workload's own answers", 1.15),
    "one-percent-dropped": ("1 % dropped", 1.25),
    "nothing-dropped": ("nothing dropped", 3.0),
    "everything-dropped": ("everything dropped", 1.0),
}


def write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    workload = results["workload"]
    ratios: list[Ratio] = [
        (f"filter, {_REWRITES[name][0]}", told["ratio_of_pairs"], _REWRITES[name][1]) for name, told in results["rewrite"].items()
    ]
    ratios.append(("audit", results["audit"]["ratio"], 3.0))
    ratios.append(("a selection made", results["selection"]["ratio"], 3.0))
    ratios.append(("reading by a selection, beside bare reading", 1 / results["selection"]["read_to_bare"], 1 / 1.15))
    ratios.append(("import, beside the bare sqlite3 module", results["import"]["import_to_bare"], 0.25))
    (folder / "ratios.svg").write_text(_chart(ratios), encoding="utf-8")
    rerun = results["rerun"]
    versions = ", ".join(f"{name} {version(name)}" for name in ("pyarrow", "duckdb", "polars", "sqlalchemy", "datafusion"))
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {os.cpu_count()} cores, {platform.machine()},",
        f"Python {platform.python_version()}, {versions}.",
        f"{workload['rows']:,} rows of posts in {len(workload['shards'])} zstd shards, {workload['kept']:,} of them",
        f"allowed; {workload['events']:,} acts. Medians of {results['rounds']} rounds, in which",
        "the sides take turns; each measurement is a process of its own.",
        "",
        "Ours includes the start of Python, opening and verifying the snapshot, digests, fsync, the signed statement and its",
        "entry in the log. The peers are what an engineer would write instead: the same rows by ready-made tables of answers,",
        "without a digest, a statement or the shards' exact schema; their clock starts once Python runs, before their imports.",
        "In all four sets of answers a twentieth of the posts have acts of their own.",
        "",
        "![Ratios and goals](ratios.svg)",
        "",
        "| what | as fast as the other side | goal | |",
        "|---|---|---|---|",
        *(
            f"| {what} | {ratio:.2f}× | {goal:.2f}× | {'reached' if ratio >= goal else '**not reached**'} |"
            for what, ratio, goal in ratios
        ),
        "",
        "## Filter",
        "",
        *_table(
            ("answers", "ours, s", "Polars, s", "DuckDB, s", "kept", "output by input × share kept", "peak, MiB"),
            [
                (
                    _REWRITES[name][0],
                    *(f"{told['seconds'][side]:.2f}" for side in ("ours", "polars", "duckdb")),
                    f"{told['share_kept']:.1%}",
                    "" if told["size_ratio"] is None else f"{told['size_ratio']:.2f}",
                    str(told["peak_mib"]["ours"]),
                )
                for name, told in results["rewrite"].items()
            ],
        ),
        "",
        "Where the time goes, and what was tried: [rewrite.md](rewrite.md).",
        "",
        "## Audit, selections, import, fsck",
        "",
        *_table(
            ("what", "a second"),
            [
                ("audit", f"{workload['rows'] / results['audit']['seconds']['audit']:,.0f} rows"),
                ("making a selection", f"{workload['rows'] / results['selection']['seconds']['select']:,.0f} rows"),
                ("making it again", f"{workload['rows'] / results['selection']['seconds']['again']:,.0f} rows"),
                ("reading by it", f"{workload['rows'] / results['selection']['seconds']['selected']:,.0f} rows"),
                ("reading bare", f"{workload['rows'] / results['selection']['seconds']['bare']:,.0f} rows"),
                *((name, f"{results['import'][f'{name}_per_second']:,.0f} acts") for name in ("import", "bare", "fsck")),
            ],
        ),
        "",
        "Where the time of an import goes: [import.md](import.md).",
        "",
        "## A run done again after one withdrawal",
        "",
        f"{rerun['shards']:,} shards of {rerun['rows']:,} rows; the person has rows in {rerun['held']:.0f} of them (median). "
        "Goal: 2 % of a full run.",
        "What it costs beyond these shards is the start of Python and its libraries, the snapshot and the statement.",
        "",
        *_table(
            ("what", "s", "of a full run", "CPU, s", "of a full run"),
            [
                (
                    what,
                    *(
                        text
                        for by in (rerun["seconds"], rerun["cpu"])
                        for text in (f"{by[side]:.1f}", f"{by[side] / by['full']:.1%}")
                    ),
                )
                for what, side in (("all shards", "full"), ("again", "again"), ("`audit --stale`", "stale"))
            ],
        ),
        "",
        "## Single acts, each durable and signed before the next",
        "",
        "Goal: 1,000 a second by 8 writers with SQLite. Bare: a transaction of one row by the `sqlite3` module, synced.",
        "",
        *_table(
            ("side", "writers", "a second", "p50, ms", "p95, ms", "p99, ms", "CPU of each, ms"),
            [
                (
                    one["side"],
                    str(one["writers"]),
                    f"{one['per_second']:,.0f}",
                    *(f"{one[f'p{i}_ms']:.1f}" for i in (50, 95, 99)),
                    f"{one['cpu_ms']:.2f}",
                )
                for one in results["appends"]
            ],
        ),
        "",
        "Where the time goes, and what was tried: [appends.md](appends.md).",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _chart(ratios: Sequence[Ratio]) -> str:
    """A bar each, and a line across it where its goal is."""
    left, wide, row = 290, 380, 34
    scale = wide / max(max(ratio, goal) for _, ratio, goal in ratios)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + wide + 130} {row * len(ratios) + 40}" '
        'font-family="system-ui, sans-serif" font-size="14" role="img">',
        "<title>How fast, as a multiple of the other side</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for number, (what, ratio, goal) in enumerate(ratios):
        top = 10 + number * row
        mark = left + goal * scale
        beside = max(left + ratio * scale, mark) + 8
        parts += [
            f'<text x="{left - 10}" y="{top + 16}" text-anchor="end" fill="#1b1f24">{escape(what)}</text>',
            f'<rect x="{left}" y="{top}" width="{ratio * scale:.1f}" height="22" fill="#2f6f9f"/>',
            f'<line x1="{mark:.1f}" x2="{mark:.1f}" y1="{top - 4}" y2="{top + 26}" stroke="#1b1f24" stroke-width="2"/>',
            f'<text x="{beside:.1f}" y="{top + 16}" fill="#1b1f24">{ratio:.2f}× of {goal:.2f}×</text>',
        ]
    below = row * len(ratios) + 28
    legend = "bar: measured; line: goal; numbers: measured of goal"
    parts.append(f'<text x="{left}" y="{below}" fill="#57606a" font-size="12">{legend}</text></svg>')
    return "\n".join(parts) + "\n"
