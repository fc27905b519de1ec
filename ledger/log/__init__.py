"""The transparency log: bytes in, bytes out; no database, file or clock."""
