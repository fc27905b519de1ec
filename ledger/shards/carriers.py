"""What a shard's own words are known to repeat of its rows: key-value metadata, and the schemas of shredded variants.

A rewritten shard keeps its publisher's metadata. Where that holds values which may have stood in dropped rows only, whoever
filters is told, and may drop the entry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from ledger.shards.arrow_schema import KEY as ARROW_SCHEMA
from ledger.shards.arrow_schema import Unsupported, metadata_of
from ledger.shards.footer import Footer
from ledger.shards.thrift import Struct


def carried_metadata_warnings(footer: Footer, drop_metadata: Collection[str] = ()) -> list[str]:
    """What to tell, one sentence an entry, each naming the key and the option that removes it.

    drop_metadata: keys that are left out. Raises ShardError for a damaged Arrow schema.
    """
    dropped = {key.encode() for key in drop_metadata}
    entries = footer.key_values if ARROW_SCHEMA in dropped else footer.metadata
    found = {(key, what) for key, value in entries if key not in dropped for what in _carried(key, value)}
    warnings = []
    for key, what in sorted(found):
        name = key[:200].decode(errors="backslashreplace")
        warnings.append(
            f"metadata {name!r} is kept, and lists {what}, which may come from dropped rows (--drop-metadata {name} removes it)"
        )
    return warnings + [
        f"column {name[:200].decode(errors='backslashreplace')!r} is a shredded variant: its schema names fields of its values, "
        "which may come from dropped rows (written without shredding, it would not)"
        for name in _shredded(footer.elements)
    ]


def _carried(key: bytes, value: bytes) -> Iterator[str]:
    for carrier, what, holds in _CARRIERS:
        if (key.startswith(carrier[:-1]) if carrier.endswith(b"*") else key == carrier) and holds(value):
            yield what


def _class_labels(value: bytes) -> bool:
    return any(node.get("_type") == "ClassLabel" and bool(node.get("names")) for node in _nodes(value))


def _attributes(value: bytes) -> bool:
    return any(node.get("attributes") for node in _nodes(value)[:1])


def _boxes(value: bytes) -> bool:
    return any("bbox" in node for node in _nodes(value))


def _spark_labels(value: bytes) -> bool:
    return any("ml_attr" in node for node in _nodes(value))


def _unreadable(value: bytes) -> bool:
    try:
        metadata_of(value)
    except Unsupported:
        return True
    return False


def _symbols(value: bytes) -> bool:
    return any(bool(node.get("symbols")) for node in _nodes(value))


_CARRIERS: Final[tuple[tuple[bytes, str, Callable[[bytes], bool]], ...]] = (
    (b"huggingface", "class labels", _class_labels),
    (b"pandas", "attributes of the data frame", _attributes),
    (b"PANDAS_ATTRS", "attributes of the data frame", lambda value: value not in (b"", b"{}")),
    (b"r", "attributes of the R data frame", bool),
    (b"geo", "bounding boxes", _boxes),
    (b"org.apache.spark.sql.parquet.row.metadata", "labels of Spark ML", _spark_labels),
    (ARROW_SCHEMA, "what cannot be read here", _unreadable),
    # Polars numbers this key by its form: _PL_ENUM_VALUES, _PL_ENUM_VALUES2.
    (b"_PL_ENUM_VALUES*", "values of a Polars enum", bool),
    (b"parquet.avro.schema", "symbols of Avro enums", _symbols),
    (b"avro.schema", "symbols of Avro enums", _symbols),
    (b"parquet.proto.enum.*", "values of a Protocol Buffers enum", bool),
)
"""Key, or the beginning of one before `*`; what it lists; whether this value of it does."""

_VARIANT: Final = 16  # of LogicalType
_VARIANT_WORDS: Final = frozenset((b"metadata", b"value", b"typed_value", b"list", b"element"))


def _shredded(elements: tuple[Struct, ...]) -> list[bytes]:
    """Variants with fields of their own. elements: a schema, depth first (4: name, 5: number of children, 10: logical type)."""
    names = []
    for number, element in enumerate(elements):
        if _VARIANT in element.get(10, (0, {}))[1]:
            below, at = element.get(5, (0, 0))[1], number
            while below:
                at += 1
                below += elements[at].get(5, (0, 0))[1] - 1
            if {child[4][1] for child in elements[number + 1 : at + 1]} - _VARIANT_WORDS:
                names.append(element[4][1])
    return names


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
