"""Thrift's compact protocol, without a schema: what is not known is read, and written again, like the rest.

After apache/thrift, doc/specs/thrift-compact-protocol.md. A struct is a dict from field number to (type, value), in the order
of the bytes. Values: bool for a field of type TRUE or FALSE; int for BYTE, I16, I32, I64 and for a boolean inside a container
(the byte that stands there); bytes for DOUBLE and BINARY; Items; Pairs; Struct. Depth, container sizes and the number of
structs and containers are bounded; what is malformed raises Malformed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)

MAX_DEPTH = 64
MAX_CONTAINER = 1_000_000
MAX_NODES = 4_000_000

Struct = dict[int, tuple[int, Any]]


class Malformed(ValueError):
    """The bytes are not this protocol, or exceed its bounds."""


class Items(NamedTuple):
    """A list or set; kind is the type of its values."""

    kind: int
    values: list[Any]


class Pairs(NamedTuple):
    """A map."""

    key_kind: int
    value_kind: int
    pairs: list[tuple[Any, Any]]


class Reader:
    """Reads forward from `at`."""

    __slots__ = ("_nodes", "at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at
        self._nodes = MAX_NODES

    def struct(self, depth: int = 0) -> Struct:
        self._node(depth)
        fields: Struct = {}
        for number, kind in self.fields():
            if number in fields:
                raise Malformed(f"field {number} occurs twice")
            fields[number] = (kind, kind == TRUE if kind <= FALSE else self.value(kind, depth + 1))
        return fields

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of a struct; whoever iterates reads the value (TRUE and FALSE have none) in between."""
        number = 0
        while True:
            header = self._byte()
            if header == STOP:
                return
            kind, step = header & 15, header >> 4
            if not TRUE <= kind <= STRUCT:
                raise Malformed(f"there is no type {kind}")
            number = number + step if step else self.integer()
            yield number, kind

    def items(self) -> tuple[int, int]:
        """Type and number of the values of a list or set; they follow."""
        header = self._byte()
        size = header >> 4
        return header & 15, self._size(self.varint() if size == 15 else size)

    def value(self, kind: int, depth: int = 0) -> Any:
        """A value that is not a field's boolean."""
        if I16 <= kind <= I64:
            return self.integer()
        if kind == BINARY:
            return self._bytes(self.varint())
        if kind == STRUCT:
            return self.struct(depth)
        if kind in (LIST, SET):
            self._node(depth)
            of, size = self.items()
            return Items(of, [self.value(of, depth + 1) for _ in range(size)])
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        if kind == DOUBLE:
            return self._bytes(8)
        if kind == MAP:
            self._node(depth)
            size = self._size(self.varint())
            kinds = self._byte() if size else 0
            key, of = kinds >> 4, kinds & 15
            return Pairs(key, of, [(self.value(key, depth + 1), self.value(of, depth + 1)) for _ in range(size)])
        raise Malformed(f"there is no type {kind}")

    def integer(self) -> int:
        """A zigzag varint."""
        number = self.varint()
        return (number >> 1) ^ -(number & 1)

    def varint(self) -> int:
        data, at = self.data, self.at
        number = shift = 0
        try:
            while (byte := data[at]) > 127:
                number |= (byte & 127) << shift
                at += 1
                shift += 7
                if shift > 63:
                    raise Malformed("an integer is longer than 64 bits")
        except IndexError:
            raise Malformed("it ends too early") from None
        self.at = at + 1
        return number | byte << shift

    def renew(self) -> None:
        """Nothing of what was read is held any more: count structs and containers anew."""
        self._nodes = MAX_NODES

    def _node(self, depth: int) -> None:
        self._nodes -= 1
        if depth > MAX_DEPTH or self._nodes < 0:
            raise Malformed("it is nested too deep or too large")

    def _size(self, size: int) -> int:
        # Each value takes a byte at least, so what is announced must be there.
        if size > MAX_CONTAINER or size > len(self.data) - self.at:
            raise Malformed(f"a container of {size} values cannot be")
        return size

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise Malformed("it ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def _bytes(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise Malformed("it ends too early")
        value = self.data[self.at : end]
        self.at = end
        return value


class Writer:
    """Writes what Reader reads."""

    __slots__ = ("data",)

    def __init__(self) -> None:
        self.data = bytearray()

    def struct(self, fields: Struct) -> None:
        previous = 0
        for number, (kind, value) in fields.items():
            if kind in (TRUE, FALSE):
                self.field(number, TRUE if value else FALSE, previous)
            else:
                self.field(number, kind, previous)
                self.value(kind, value)
            previous = number
        self.data.append(STOP)

    def field(self, number: int, kind: int, previous: int) -> None:
        """The header of a field that comes after the field numbered previous (0 for the first)."""
        if 0 < number - previous < 16:
            self.data.append((number - previous) << 4 | kind)
        else:
            self.data.append(kind)
            self.integer(number)

    def items(self, kind: int, size: int) -> None:
        if size < 15:
            self.data.append(size << 4 | kind)
        else:
            self.data.append(0xF0 | kind)
            self.varint(size)

    def value(self, kind: int, value: Any) -> None:
        if I16 <= kind <= I64:
            self.integer(value)
        elif kind == BINARY:
            self.varint(len(value))
            self.data += value
        elif kind == STRUCT:
            self.struct(value)
        elif kind in (LIST, SET):
            self.items(value.kind, len(value.values))
            for item in value.values:
                self.value(value.kind, item)
        elif kind == DOUBLE:
            self.data += value
        elif kind == MAP:
            self.varint(len(value.pairs))
            if value.pairs:
                self.data.append(value.key_kind << 4 | value.value_kind)
            for key, item in value.pairs:
                self.value(value.key_kind, key)
                self.value(value.value_kind, item)
        else:
            self.data.append(value)

    def integer(self, number: int) -> None:
        self.varint(number << 1 ^ number >> 63)

    def varint(self, number: int) -> None:
        while number > 127:
            self.data.append(number & 127 | 128)
            number >>= 7
        self.data.append(number)
