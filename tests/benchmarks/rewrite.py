"""The rewrite of shards beside Polars and DuckDB: `WORKLOAD=DIR PEERS=peers.py python -m tests.benchmarks.rewrite`.

DIR and peers.py are as for `make bench`. The same shards are filtered by four sets of answers: those of the workload (`plain`),
and such that about 1 % of the rows are dropped, none, and all. In these three as well some of the posts have acts of their own,
the workload's: everyone said yes, as did in the end whoever had said no to a post; then nobody takes it back, or a few people do,
or all. Ours and the peers take turns; each measurement is a process of its own and prints a line of JSON; what is compared is the
median of the rounds. Start-up, digests, fsync and the statement are in ours; the peers' clock runs from after Python's start, and
their imports are in it. What is made is removed again, but for the answers, which are used again.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import ledger

KEYS = ("--subject", "user_id", "--content", "post_id")
PLAIN, FEW, NONE, ALL = "plain", "one-percent-dropped", "nothing-dropped", "everything-dropped"
VARIANTS = (PLAIN, FEW, NONE, ALL)
PEERS = ("polars", "duckdb")
_AT = 1_700_000_000_000_000
_DAY = 86_400_000_000
_LATER = _AT + 400 * _DAY  # than every yes
_SHARE_DROPPED = 0.01
_COMMON = 200  # rows of a person: one who has more is not among the 1 %, so that the share is of many people
_CHILD = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
seconds = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
told = {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss // 1024}
print(json.dumps([told, done.returncode, done.stdout, done.stderr]))
"""


def prepare(workload: Path) -> Path:
    """The folder `rewrite` in the workload: a ledger, and of each variant a snapshot and what the peers take. Made once."""
    folder = workload / "rewrite"
    if (folder / "ready").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    people = _people(workload)
    dropped = _some(people)
    rows = {shard.name: pq.read_table(shard, columns=["user_id"])["user_id"] for shard in shards(workload)}
    total = {name: len(ids) for name, ids in rows.items()}
    left = {name: len(ids) - pc.sum(pc.is_in(ids, value_set=dropped)).as_py() for name, ids in rows.items()}
    plain = json.loads((workload / "expected.json").read_text(encoding="utf-8"))["shards"]
    everyone, items = people["user_id"], pq.read_table(workload / "items.parquet")
    yes = _AT + np.random.default_rng(8).integers(0, 300 * _DAY, len(everyone))
    leaves = pc.is_in(everyone, value_set=dropped).to_numpy(zero_copy_only=False)
    no_to_item, yes_to_item = (items[name].to_numpy() for name in ("no", "yes"))
    refused = no_to_item >= 0
    yes_to_item = np.where(refused, no_to_item + _DAY, yes_to_item)
    for variant, kept, no_at in (
        (FEW, left, np.where(leaves, _LATER, -1)),
        (NONE, total, np.full(len(yes), -1)),
        (ALL, dict.fromkeys(total, 0), np.full(len(yes), _LATER)),
    ):
        subjects = pa.table({"user_id": everyone, "no": no_at, "yes": yes})
        _for_peers(folder / variant, workload, subjects, items.set_column(3, "yes", pa.array(yes_to_item)), kept)
    (folder / PLAIN).mkdir()
    for name in ("shards", "subjects.parquet", "items.parquet"):
        (folder / PLAIN / name).symlink_to(workload / name)
    (folder / PLAIN / "expected.json").write_text(json.dumps({"shards": plain}), encoding="utf-8")
    with ledger.create(folder / "consent-ledger") as book:
        for purpose in ("train-ai", FEW, NONE, ALL):
            book.declare_purpose(purpose, title="T", description="D")
        book.import_file(workload / "events.parquet")
        refusing, of_people = items.filter(pa.array(refused)), pa.table({"user_id": everyone})
        for number, (state, who, purposes, at) in enumerate(
            (
                ("given", of_people, [FEW, NONE, ALL], yes),
                ("withdrawn", refusing, [FEW, NONE, ALL], no_to_item[refused]),
                ("given", items, [FEW, NONE, ALL], yes_to_item),
                ("withdrawn", of_people.filter(pa.array(leaves)), [FEW], np.full(int(leaves.sum()), _LATER)),
                ("withdrawn", of_people, [ALL], np.full(len(yes), _LATER)),
            )
        ):
            events = folder / f"events-{number}.parquet"
            pq.write_table(_events(state, who, purposes, at), events)
            book.import_file(events)
        for variant in VARIANTS:
            book.snapshot("train-ai" if variant == PLAIN else variant, output=folder / f"{variant}.parquet")
    (folder / "ready").touch()
    return folder


def measure(workload: Path, rounds: int, peers: Path | None = None, variants: tuple[str, ...] = VARIANTS) -> dict[str, Any]:
    """Of each variant: medians, ratio to the faster peer, size, memory, all measurements. Raises SystemExit for wrong rows.

    peers: the file peers.py; by default that of $PEERS.
    """
    workload, peers = workload.resolve(), (peers or Path(os.environ["PEERS"])).resolve()
    folder = prepare(workload)
    size = sum(path.stat().st_size for path in shards(workload))
    result: dict[str, Any] = {}
    for variant in variants:
        expected = json.loads((folder / variant / "expected.json").read_text(encoding="utf-8"))["shards"]
        rows = sum(pq.read_metadata(path).num_rows for path in shards(workload))
        share = sum(expected.values()) / rows
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in ("ours", *PEERS)}
        for number in range(rounds):
            # Whoever begins is another one each time.
            sides = ["ours", *PEERS][number % 3 :] + ["ours", *PEERS][: number % 3]
            for side in sides:
                if side == "ours":
                    one = _ours(folder, variant, expected)
                else:
                    one = peer(peers, folder / variant, side, sum(expected.values()))
                measured[side].append(one)
                print(json.dumps({"variant": variant, "side": side, "round": number, **one}), flush=True)
        seconds = {side: statistics.median(one["seconds"] for one in several) for side, several in measured.items()}
        faster = min(PEERS, key=seconds.__getitem__)
        best = [min(measured[peer][number]["seconds"] for peer in PEERS) for number in range(rounds)]
        ratios = [best[number] / measured["ours"][number]["seconds"] for number in range(rounds)]
        result[variant] = {
            "seconds": seconds,
            "faster_peer": faster,
            "ratio": seconds[faster] / seconds["ours"],
            "ratio_of_pairs": statistics.median(ratios),
            "share_kept": share,
            "size_ratio": measured["ours"][0]["bytes"] / (size * share) if share else None,
            "bytes": {side: several[0]["bytes"] for side, several in measured.items()},
            "peak_mib": {side: max(one["peak_mib"] for one in several) for side, several in measured.items()},
            "measured": measured,
        }
        print(json.dumps({"variant": variant} | {name: value for name, value in result[variant].items() if name != "measured"}))
    return result


def _ours(folder: Path, variant: str, expected: dict[str, int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        output = Path(temporary) / "out"
        command = [sys.executable, "-m", "ledger.cli", "--ledger", str(folder / "consent-ledger"), "filter", "shards", *KEYS]
        command += ["--snapshot", str(folder / f"{variant}.parquet"), "--max-age", "3650d", "--workers", "2", "-o", str(output)]
        one, _ = child(command, folder / variant)
        kept = {path.name: pq.read_metadata(path).num_rows for path in output.glob("*.parquet")}
        if kept != expected:
            raise SystemExit(f"{variant}: the rows kept are {kept}, and should be {expected}")
        return one | {"bytes": sum(path.stat().st_size for path in output.glob("*.parquet"))}


def peer(peers: Path, folder: Path, name: str, expected: int) -> dict[str, Any]:
    """What peers.py told of one peer. Raises SystemExit for another number of rows."""
    measured, said = child([sys.executable, str(peers), str(folder), name], folder)
    one: dict[str, Any] = measured | json.loads(said.splitlines()[-1])  # their own seconds are without their start
    if one["kept"] != expected:
        raise SystemExit(f"{name} kept {one['kept']} rows, and not {expected}")
    return one


def child(command: list[str], folder: Path, codes: tuple[int, ...] = (0,)) -> tuple[dict[str, Any], str]:
    """Seconds from start to end, processor time and peak memory; and what it wrote. Raises SystemExit for another exit code."""
    done = subprocess.run([sys.executable, "-c", _CHILD, *command], cwd=folder, capture_output=True, text=True, check=True)
    told, code, out, err = json.loads(done.stdout)
    if code not in codes:
        raise SystemExit(f"{' '.join(command[:4])}: {err[-2000:]}")
    return told, out


def shards(workload: Path) -> list[Path]:
    return sorted((workload / "shards").glob("*.parquet"))


def _people(workload: Path) -> Any:
    """user_id and rows, of everyone in the shards."""
    tables = [pq.read_table(shard, columns=["user_id"]) for shard in shards(workload)]
    counted = pa.concat_tables(tables).group_by("user_id").aggregate([([], "count_all")])
    return counted.sort_by("user_id").combine_chunks()


def _some(people: Any) -> Any:
    """The ids of those whose rows are about 1 %."""
    rows = people["count_all"].to_numpy()
    order = np.random.default_rng(7).permutation(len(rows))
    order = order[rows[order] <= _COMMON]
    chosen = order[: int(np.searchsorted(np.cumsum(rows[order]), rows.sum() * _SHARE_DROPPED))]
    return people["user_id"].take(pa.array(np.sort(chosen))).combine_chunks()


def _for_peers(folder: Path, workload: Path, subjects: Any, items: Any, kept: dict[str, int]) -> None:
    """As make_shards.py writes them: last no and last yes, -1 for none."""
    folder.mkdir()
    (folder / "shards").symlink_to(workload / "shards")
    pq.write_table(subjects, folder / "subjects.parquet")
    pq.write_table(items, folder / "items.parquet")
    (folder / "expected.json").write_text(json.dumps({"shards": kept}), encoding="utf-8")


def _events(state: str, who: Any, purposes: list[str], at: Any) -> Any:
    """who: user_id, and post_id where it is about posts."""
    n = len(who)
    return pa.table(
        {
            "state": pa.repeat(state, n),
            "subject_id": who["user_id"],
            "content_id": who["post_id"] if "post_id" in who.column_names else pa.nulls(n, pa.string()),
            "purposes": pa.array([purposes] * n, pa.list_(pa.string())),
            "occurred_at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "channel": pa.repeat("import", n),
        }
    )


def main() -> None:
    workload = Path(os.environ["WORKLOAD"])
    variants = tuple(os.environ.get("VARIANTS", ",".join(VARIANTS)).split(","))
    result = measure(workload, int(os.environ.get("ROUNDS", "5")), variants=variants)
    for variant, told in result.items():
        seconds = ", ".join(f"{side} {value:.2f} s" for side, value in told["seconds"].items())
        size = "" if told["size_ratio"] is None else f", size {told['size_ratio']:.2f} of its share"
        print(f"{variant:<20} {told['ratio']:.2f}x the faster peer ({seconds}){size}, peak {told['peak_mib']['ours']} MiB")


if __name__ == "__main__":
    main()
