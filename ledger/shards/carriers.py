"""Key-value metadata that is known to repeat values of rows.

A rewritten shard keeps its publisher's metadata. Where that holds values which may have stood in dropped rows only, whoever
filters is told, and may drop the entry.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Final

from ledger.shards.footer import ARROW_SCHEMA, Footer


def carried_metadata_warnings(footer: Footer) -> list[str]:
    """What to tell, one sentence an entry, each naming the key."""
    warnings = []
    for key, value in footer.key_values:
        name = key.decode(errors="backslashreplace")
        for carrier, what, holds in _CARRIERS:
            if key == carrier and holds(value):
                warnings.append(f"key-value metadata {name!r} is kept, and lists {what}, which may come from dropped rows")
    return warnings


def _class_labels(value: bytes) -> bool:
    return any(node.get("_type") == "ClassLabel" and bool(node.get("names")) for node in _nodes(value))


def _attributes(value: bytes) -> bool:
    return any(node.get("attributes") for node in _nodes(value)[:1])


def _boxes(value: bytes) -> bool:
    return any("bbox" in node for node in _nodes(value))


def _spark_labels(value: bytes) -> bool:
    return any("ml_attr" in node for node in _nodes(value))


def _categories(value: bytes) -> bool:
    # Polars writes the values of an Enum into the metadata of its field.
    try:
        return b"_PL_ENUM_VALUES" in base64.b64decode(value)
    except ValueError:
        return False


_CARRIERS: Final[tuple[tuple[bytes, str, Callable[[bytes], bool]], ...]] = (
    (b"huggingface", "class labels", _class_labels),
    (b"pandas", "attributes of the data frame", _attributes),
    (b"PANDAS_ATTRS", "attributes of the data frame", lambda value: value not in (b"", b"{}")),
    (b"geo", "bounding boxes", _boxes),
    (b"org.apache.spark.sql.parquet.row.metadata", "labels of Spark ML", _spark_labels),
    (ARROW_SCHEMA, "values of Polars enums", _categories),
)


def _nodes(value: bytes) -> list[dict[str, Any]]:
    """Every object in a JSON text, outermost first; none where it is no JSON."""
    try:
        found: list[Any] = [json.loads(value)]
    except (ValueError, RecursionError):
        return []
    nodes = []
    for node in found:  # grows while it is gone through
        if isinstance(node, dict):
            nodes.append(node)
            found.extend(node.values())
        elif isinstance(node, list):
            found.extend(node)
    return nodes
