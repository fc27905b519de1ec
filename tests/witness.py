"""A witness that speaks C2SP tlog-witness, for the tests: a real server on loopback. It shares no code with what it checks but
the tree's verification and the signatures.

`manner` makes it a bad one: see `_answer`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import VerificationError
from ledger.log import merkle

Reply = tuple[int, str, bytes]


class Witness:
    """keys: of the logs that it knows, by origin. state: a file that outlives it. asked: the `old` of each request."""

    def __init__(self, name: str, state: Path, keys: dict[str, bytes], *, manner: str = "") -> None:
        self.name, self.state, self.keys, self.manner = name, state, keys, manner
        self.key = Ed25519PrivateKey.generate()
        self.signs_with = self.key
        self.asked: list[int] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        witness = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with contextlib.suppress(OSError):  # who asked has left
                    witness._serve(self, body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self._key_id().hex()}+{base64.b64encode(bytes([4]) + self.public).decode()}"

    def _key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n\x04" + self.public).digest()[:4]

    def known(self) -> dict[str, list[Any]]:
        """Origin -> size and root of what it cosigned last."""
        return dict(json.loads(self.state.read_text())) if self.state.exists() else {}

    def _serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if self.manner == "slow":
            self._ended.wait(30)
        if self.manner == "drip":
            handler.send_response(200)
            handler.end_headers()
            while not self._ended.wait(0.05):
                handler.wfile.write(b"x")
            return
        if self.manner == "redirect":
            handler.send_response(307)
            handler.send_header("Location", "http://127.0.0.2:9/add-checkpoint")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        with self._lock:
            status, kind, answer = self._answer(handler.path, body)
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _answer(self, path: str, body: bytes) -> Reply:
        text = "text/plain"
        if path != "/add-checkpoint":
            return 404, text, b"no such path\n"
        if self.manner.isdigit():
            return int(self.manner), text, b""
        if self.manner == "garbage":
            return 200, text, b"\xff\x00 nonsense"
        if self.manner == "empty":
            return 200, text, b""
        if self.manner == "endless":
            return 200, text, b"x" * (1 << 20)
        head, _, checkpoint = body.partition(b"\n\n")
        first, *lines = head.decode().split("\n")
        old, proof = int(first.removeprefix("old ")), [base64.b64decode(line, validate=True) for line in lines]
        self.asked.append(old)
        signed, _, signatures = checkpoint.partition(b"\n\n")
        signed += b"\n"
        origin, size_text, root_text = signed.decode().split("\n")[:3]
        size, root = int(size_text), base64.b64decode(root_text)
        if origin not in self.keys:
            return 404, text, b"unknown log\n"
        if not self._is_signed(origin, signed, signatures.decode()):
            return 403, text, b"not signed by a key of that log\n"
        if old > size:
            return 400, text, b"old is larger than the checkpoint\n"
        known = self.known()
        there, there_root = known.get(origin, [0, ""])
        if old != there:
            return 409, "text/x.tlog.size", f"{there}\n".encode()
        if old == size and there_root != root.hex():
            return (422 if self.manner == "says-422" else 409), "text/x.tlog.size", f"{there}\n".encode()
        try:
            if old and old != size:
                merkle.verify_consistency(old, bytes.fromhex(there_root), size, root, proof)
            elif proof:
                return 400, text, b"a proof where there can be none\n"
        except VerificationError:
            return 422, text, b"the proof does not fit\n"
        self.state.write_text(json.dumps({**known, origin: [size, root.hex()]}))
        return 200, text, self.line(signed)

    def line(self, signed: bytes) -> bytes:
        seconds = int(time.time())
        signature = self.signs_with.sign(f"cosignature/v1\ntime {seconds}\n".encode() + signed)
        data = self._key_id() + seconds.to_bytes(8, "big") + signature
        return f"— {self.name} {base64.b64encode(data).decode()}\n".encode()

    def _is_signed(self, origin: str, signed: bytes, signatures: str) -> bool:
        for line in signatures.splitlines():
            _, name, encoded = line.split(" ")
            if name == origin:
                try:
                    Ed25519PublicKey.from_public_bytes(self.keys[origin]).verify(base64.b64decode(encoded)[4:], signed)
                    return True
                except InvalidSignature:
                    return False
        return False
