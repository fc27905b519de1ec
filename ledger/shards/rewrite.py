"""One shard, rewritten without some of its rows, and otherwise as it was.

- One open file is hashed and decoded. It is read, never mapped: a mapped file that is cut short kills the process.
- Keys are read as every reader sees them. What is written is read as bits alone (see footer): dictionary, view and extension types
  do not exist there, so no dictionary of the source comes along with values of dropped rows, and values hidden under a null parent were never
  in the pages. The writer gets the kept rows only; statistics, dictionaries and page indexes are made from them.
- A row group stays one; one that loses all its rows vanishes; a shard that loses all is written with none.
- The codec of each column is kept, and so is dictionary coding where the source's pages all have it.
- The written file is opened again before it may be published: schema elements, column orders and key-values must be the source's
  bytes, and its rows those that were kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ledger.errors import ShardError
from ledger.shards import footer
from ledger.shards.publish import HashingSink

# parquet.thrift's CompressionCodec, as pyarrow calls them. LZ4 (5) is Hadoop's framing, which no writer should make: LZ4_RAW (7) replaces it.
_CODECS: Final = {0: "none", 1: "snappy", 2: "gzip", 4: "brotli", 5: "lz4", 6: "zstd", 7: "lz4"}
_LZO: Final = 3

Mask = Any  # a numpy array of bool or a pyarrow.BooleanArray
