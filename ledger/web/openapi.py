"""The API as OpenAPI 3.1: the routes as they are, and the JSON Schemas of `ledger.schemas` as its components."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.responses import Response
from starlette.routing import BaseRoute

_FAILS = {
    401: "No key, or none that stands.",
    403: "The key has not the scope that this needs.",
    404: "There is none.",
    408: "The body took too long.",
    409: "Another act is recorded under this event_id.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "What was asked cannot be asked. Nothing was done.",
    500: "Integrity failure, or an error that nobody expected. Nothing is known.",
    503: "Busy, or out of order. Nothing is known; try again.",
}
_ALWAYS = (401, 403, 422, 500, 503)
_WITH_BODY = (408, 413, 415)
_ABOUT = """Record what people say, ask what holds, share snapshots. Silence is no.

Every request needs `Authorization: Bearer KEY`, with a key that has the scope which the operation names."""


def documented(
    scope: str, *, gives: dict[int, str | None], asks: str | None = None, fails: tuple[int, ...] = (), **more: Any
) -> dict[str, Any]:
    """Arguments of a route. gives: a status -> the name of a schema, a media type, or None for an empty body. asks: the schema of
    the body. more: of the operation."""
    responses: dict[int | str, dict[str, Any]] = {status: _given(what) for status, what in gives.items()}
    for status in sorted({*_ALWAYS, *fails, *(_WITH_BODY if asks else ())}):
        responses[status] = {"description": _FAILS[status], "content": {"application/json": {"schema": _schema("error")}}}
    operation: dict[str, Any] = {"security": [{"key": []}], "x-scope": scope, **more}
    if asks:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _schema(asks)}}}
    return {
        "responses": responses,
        "openapi_extra": operation,
        "status_code": min(gives) if 201 not in gives else 201,
        "response_class": Response,
    }


def parameter(name: str, where: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema, "description": description}


def document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """What `/v1/openapi.json` answers."""
    made = get_openapi(title="consent-ledger", version=metadata.version("consent-ledger"), description=_ABOUT, routes=routes)
    components = made.setdefault("components", {})
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    named: dict[str, Any] = components.setdefault("schemas", {})
    wanted = sorted(_named(made) - named.keys())
    while wanted:
        named |= {name: component(name) for name in wanted}
        wanted = sorted(_named(named) - named.keys())
    return made


def component(name: str) -> dict[str, Any]:
    """A schema of `ledger.schemas`, whose references lead to other components."""
    schema: dict[str, Any] = import_module("ledger.schemas").load(name)
    schema.pop("$schema")
    schema["$defs"] = {key: value for key, value in schema.pop("$defs", {}).items() if not key.endswith(".json")}
    moved: dict[str, Any] = _moved(schema, name)
    return moved


def _moved(node: Any, name: str) -> Any:
    if isinstance(node, list):
        return [_moved(item, name) for item in node]
    if not isinstance(node, dict):
        return node
    moved = {key: _moved(value, name) for key, value in node.items()}
    if isinstance(node.get("$ref"), str):
        file, _, path = node["$ref"].partition("#")
        moved["$ref"] = f"#/components/schemas/{file.removesuffix('.json') or name}{path}"
    return moved


def _named(node: Any) -> set[str]:
    """The components that a document refers to."""
    if isinstance(node, list):
        return {name for item in node for name in _named(item)}
    if not isinstance(node, dict):
        return set()
    found = {name for value in node.values() for name in _named(value)}
    if isinstance(node.get("$ref"), str):
        found.add(node["$ref"].removeprefix("#/components/schemas/").partition("/")[0])
    return found


def _given(what: str | None) -> dict[str, Any]:
    if what is None:
        return {"description": "Elsewhere."}
    if "/" in what:
        return {"description": "The file.", "content": {what: {"schema": {"type": "string", "format": "binary"}}}}
    return {"description": "Done.", "content": {"application/json": {"schema": _schema(what)}}}


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
