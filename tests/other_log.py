"""A C2SP tile log that shares no code with ours: entries of any length, a folder of static files, its own signatures.

Written from the standards: tlog-tiles, tlog-checkpoint, signed-note, RFC 6962 §2.1.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def _mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + _mth(leaves[:k]) + _mth(leaves[k:])).digest()


def _name(number: int) -> str:
    digits = f"{number:03}"
    while len(digits) % 3:
        digits = "0" + digits
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join([f"x{part}" for part in parts[:-1]] + [parts[-1]])


class OtherLog:
    def __init__(self, origin: str = "other.example/log") -> None:
        self.origin = origin
        self.key = Ed25519PrivateKey.generate()
        self.entries: list[bytes] = []

    @property
    def vkey(self) -> str:
        return self._vkey(self.origin, self.key)

    @staticmethod
    def _vkey(name: str, key: Ed25519PrivateKey) -> str:
        public = b"\x01" + key.public_key().public_bytes_raw()
        key_id = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
        return f"{name}+{key_id.hex()}+{base64.b64encode(public).decode()}"

    def root(self, size: int | None = None) -> bytes:
        size = len(self.entries) if size is None else size
        return _mth([hashlib.sha256(b"\x00" + entry).digest() for entry in self.entries[:size]])

    def checkpoint(self, size: int | None = None, *, root: bytes | None = None, extra: str = "", also: str = "") -> str:
        """extra: extension lines. also: further signature lines."""
        size = len(self.entries) if size is None else size
        text = f"{self.origin}\n{size}\n{base64.b64encode(root or self.root(size)).decode()}\n{extra}"
        return f"{text}\n{also}{self.signature(text)}"

    def signature(self, text: str, key: Ed25519PrivateKey | None = None) -> str:
        key = key or self.key
        key_id = bytes.fromhex(self._vkey(self.origin, key).split("+")[1])
        return f"— {self.origin} {base64.b64encode(key_id + key.sign(text.encode())).decode()}\n"

    def files(self, size: int | None = None) -> dict[str, bytes]:
        """Name -> content of everything but the checkpoint."""
        size = len(self.entries) if size is None else size
        found: dict[str, bytes] = {}
        row = [hashlib.sha256(b"\x00" + entry).digest() for entry in self.entries[:size]]
        for number in range(-(-size // 256)):
            some = self.entries[number * 256 : min(size, (number + 1) * 256)]
            data = b"".join(len(entry).to_bytes(2, "big") + entry for entry in some)
            found[f"tile/entries/{_name(number)}" + ("" if len(some) == 256 else f".p/{len(some)}")] = data
        level = 0
        while row:
            for number in range(-(-len(row) // 256)):
                part = row[number * 256 : (number + 1) * 256]
                found[f"tile/{level}/{_name(number)}" + ("" if len(part) == 256 else f".p/{len(part)}")] = b"".join(part)
            row = [_mth(row[at : at + 256]) for at in range(0, len(row) - len(row) % 256, 256)]
            level += 1
        return found

    def publish(self, folder: Path, size: int | None = None, note: str | None = None) -> Path:
        for name, data in self.files(size).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        folder.mkdir(exist_ok=True)
        (folder / "checkpoint").write_text(note or self.checkpoint(size), encoding="utf-8")
        return folder


@contextmanager
def served(folder: Path, handler: Any = None, pem: Path | None = None) -> Iterator[str]:
    """The URL of a folder on loopback, by Python's own server; handler: another kind of server. pem: with it, by https."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler or functools.partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    if pem is not None:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who refuses the certificate has left
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http{'s' if pem else ''}://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
