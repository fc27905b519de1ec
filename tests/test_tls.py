"""Over https a server counts by its certificate: one that no authority of this machine vouches for is asked nothing."""

from __future__ import annotations

import http.server
import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import Outcome
from tests.other_log import OtherLog, served


def certificate(path: Path, *, address: str = "127.0.0.1", days: int = 1) -> Path:
    """Self-signed, with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "operator")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.mark.parametrize(
    ("made", "known", "why"),
    [
        ({}, False, "self-signed certificate"),
        ({"address": "127.0.0.2"}, True, "not valid for '127.0.0.1'"),
        ({"days": -1}, True, "expired"),
        ({}, True, None),
    ],
)
def test_a_server_counts_by_its_certificate(
    made: dict[str, Any],
    known: bool,
    why: str | None,
    tmp_path: Path,
    consent: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = OtherLog()
    log.entries = [b"one", b"two"]
    log.publish(tmp_path / "log")
    (tmp_path / "trust").write_text(f"log {log.vkey}\n")
    pem = certificate(tmp_path / "server.pem", **made)
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    with served(tmp_path / "log", partial(Handler, directory=str(tmp_path / "log")), pem) as url:
        watched = consent("log", "monitor", url, "--trust", tmp_path / "trust", "--state", tmp_path / "state")
        monkeypatch.setenv("CONSENT_API_KEY", "secret")
        snapshot = f"{url}/v1/snapshots/train-ai"
        fetched = consent("fetch", snapshot, "-o", tmp_path / "answers.parquet", "--trust", tmp_path / "trust")
    assert (watched.code, (tmp_path / "state").exists()) == ((0, True) if why is None else (1, False)), watched.err
    if why is None:
        assert "the server has no such snapshot" in fetched.err and len(asked) > 2
        return
    assert asked == [], "neither a request nor a key was sent"
    for refused in (watched, fetched):
        assert refused.code == 1 and "certificate does not count here" in refused.err and why in refused.err, refused
        assert "SSL_CERT_FILE" in refused.err and "Traceback" not in refused.err
