"""Asking the API as a program would, and once as no program would."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
from jsonschema import Draft202012Validator

import ledger
from ledger import api_keys, schemas

JSON = {"content-type": "application/json"}
GIVEN = {"state": "given", "subject_id": "ann", "purposes": ["train-ai"], "occurred_at": "2026-01-01T00:00:00Z"}
NO = {"state": "withdrawn", "subject_id": "ann", "purposes": ["*"]}


class Api:
    """A server with a key of every scope, and of each alone."""

    def __init__(self, book: ledger.Ledger, served: Any) -> None:
        self.book, self.served, self.url = book, served, served.url
        self.keys = {scope: api_keys.add(book.folder.path, scope, [scope]) for scope in api_keys.SCOPES}
        self.keys["all"] = api_keys.add(book.folder.path, "all", api_keys.SCOPES)

    def ask(self, method: str, path: str, *, scope: str = "all", **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.keys[scope]}", **more.pop("headers", {})}
        answer: httpx.Response = self.served.client.request(method, path, headers=headers, **more)
        return answer

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return self.ask("POST", path, json=body, **more)

    def said(self, subject: str) -> list[str]:
        return [event.state for _, event in self.book.events_of([subject])]

    def raw(self, target: bytes, authorization: bytes | None = None) -> tuple[int, Any]:
        """(status, document or bytes) of a GET of which no client has touched anything."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        authorization = f"Bearer {self.keys['all']}".encode() if authorization is None else authorization
        with socket.create_connection((host, int(port)), 30) as connection:
            head = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %s\r\n\r\n" % (target, authorization)
            connection.sendall(head)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body) if b"application/json" in head else body


def valid(name: str, answer: httpx.Response) -> Any:
    """The document that was answered, which its schema takes."""
    told = answer.json()
    Draft202012Validator(schemas.load(name)).validate(told)
    return told
