"""Large shards: in bounded memory, and past the 2 GiB that 32-bit offsets reach. Each run is a process of its own, measured."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.shards.world import World

MIB = 1 << 20


# The kernel's own count for the program that runs, without what the process was before it.
PROGRAM = """
import sys
from pathlib import Path
from ledger.cli import run
code = run(sys.argv[1:])
status = Path("/proc/self/status").read_text()
sys.stdout.write("\\npeak " + status.split("VmHWM:")[1].split()[0])
sys.exit(code)
"""


@dataclass(frozen=True)
class Measured:
    code: int
    seconds: float
    peak: int  # bytes of resident memory


def measured(world: World, *arguments: str | Path) -> Measured:
    """`consent filter` or `audit`, on this world's ledger."""
    line = [sys.executable, "-c", PROGRAM, "--ledger", str(world.root / "ledger"), *map(str, arguments)]
    began = time.monotonic()
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    found = Measured(done.returncode, time.monotonic() - began, int(done.stdout.rpartition("peak ")[2]) * 1024)
    print(f"{arguments[0]}: {found.seconds:.1f} s, at most {found.peak / MIB:.0f} MiB")
    return found


def baseline(world: World) -> int:
    """What the process takes for anything at all."""
    tiny = world.shard("tiny/a.parquet", "yes", "no")
    return measured(world, "filter", tiny, "-o", world.root / "tiny-out", "--purpose", "ai", "--subject", "s").peak


def test_ten_thousand_columns(world: World) -> None:
    columns = 10_000
    table = pa.table([pa.array(["yes", "no"] * 4), *[pa.array(range(8))] * (columns - 1)], [f"c{n}" for n in range(columns)])
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    pq.write_table(table, source, row_group_size=4)
    found = measured(world, "filter", source, "-o", world.root / "out", "--purpose", "ai", "--subject", "c0")
    assert found.code == 0
    written = pq.ParquetFile(world.root / "out" / "a.parquet")
    assert (written.metadata.num_columns, written.metadata.num_rows, written.num_row_groups) == (columns, 4, 2)
    assert written.schema_arrow.equals(table.schema)
    assert written.read_row_group(1, ["c0", "c9999"]).to_pydict() == {"c0": ["yes"] * 2, "c9999": [4, 6]}
    assert found.peak < 1024 * MIB


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_two_gigabytes_in_large_row_groups(world: World, workers: int) -> None:
    """R6: about twice the decoded size of the largest row group for each worker; the rest is what the allocator keeps."""
    group, groups = 256 * MIB, 8 // workers
    (world.root / "in").mkdir()
    keys = pa.array([("yes", "no", "later", "yes")[n % 4] for n in range(group // 4096)])
    random = np.random.default_rng(1)
    for shard in range(workers):
        with pq.ParquetWriter(
            world.root / "in" / f"{shard}.parquet",
            pa.schema([("s", pa.string()), ("text", pa.binary())]),
            compression="none",
            use_dictionary=False,
        ) as writer:
            for _ in range(groups):
                data = pa.py_buffer(random.bytes(group))
                offsets = pa.py_buffer(np.arange(0, group + 1, 4096, dtype=np.int32))
                text = pa.Array.from_buffers(pa.binary(), len(keys), [None, offsets, data])
                writer.write_table(pa.table({"s": keys, "text": text}), row_group_size=len(keys))
    assert sum(path.stat().st_size for path in (world.root / "in").iterdir()) > 2**31
    before = baseline(world)
    line = ("--purpose", "ai", "--subject", "s", "--workers", str(workers))
    found = measured(world, "filter", world.root / "in", "-o", world.root / "out", *line)
    assert found.code == 0
    for path in (world.root / "out").iterdir():
        kept = pq.read_metadata(path)
        assert [kept.row_group(n).num_rows for n in range(kept.num_row_groups)] == [len(keys) * 3 // 4] * groups
    assert found.peak - before < workers * 3 * group
    audit = measured(world, "audit", world.root / "out", *line)
    assert audit.code == 0
    assert audit.peak - before < workers * group // 2, "keys alone are read"


@pytest.mark.soak
def test_lists_of_more_than_two_gibibytes_of_text_in_a_row_group(world: World) -> None:
    """As payload and as keys: every row has its own subject and two more, each a mebibyte long, that said nothing."""
    rows, long = 1100, pa.array(["x" * MIB], pa.large_string())
    flat = pa.concat_arrays([long] * (2 * rows))
    lists = pa.LargeListArray.from_arrays(pa.array(np.arange(0, 2 * rows + 1, 2)), flat)
    keys = pa.array([("yes", "no")[n % 2] for n in range(rows)])
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    schema = pa.schema([("s", pa.string()), ("texts", pa.list_(pa.string()))])
    pq.write_table(
        pa.table({"s": keys, "texts": lists}), source, row_group_size=rows, use_dictionary=False, write_statistics=False
    )
    del lists, flat
    assert pq.read_metadata(source).row_group(0).total_byte_size > 2**31
    found = measured(world, "filter", source, "-o", world.root / "out", "--purpose", "ai", "--subject", "s")
    assert found.code == 0
    assert pq.read_metadata(world.root / "out" / "a.parquet").num_rows == rows // 2
    assert schema.names == pq.read_schema(world.root / "out" / "a.parquet").names
    # The same, with the long texts for keys: nobody of that name is known.
    audit = measured(world, "audit", source, "--purpose", "ai", "--subject", "texts", "--format", "json")
    assert audit.code == 3
