"""The OpenAPI description of the box, made of the models that it checks calls with."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cdp_backfill.emulator.models import CALLS, TYPED, Group, Message
from cdp_backfill.model import api_facts

_TITLE: Final = "The Pipelines API in a box"

_ERRORS: Final = {
    "type": "object",
    "properties": {
        "meta": {
            "type": "object",
            "properties": {"errors": {"type": "array", "items": {"type": "string"}}},
            "required": ["errors"],
        }
    },
    "required": ["meta"],
}

_STATUSES: Final = {
    "400": "Not valid; only in strict mode, but for a body that cannot be read.",
    "401": "Wrong credentials; only in strict mode.",
    "413": "The body is too large to be read.",
    "415": "The body is no JSON, or compressed otherwise than with gzip.",
    "429": "Too many requests; only if told to.",
    "500": "Broken; only if told to.",
    "503": "Not available; only if told to.",
}


def description() -> dict[str, Any]:
    """The description, as the box serves it at ``/openapi.json``."""
    _, components = msgspec.json.schema_components(
        tuple(CALLS.values()), ref_template="#/components/schemas/{name}"
    )
    for call, kind in CALLS.items():
        components[kind.__name__] = _completed(components[kind.__name__], call, kind)
    components["Batch"] = {
        "title": "Batch",
        "type": "object",
        "properties": {
            "batch": {
                "type": "array",
                "items": {
                    "oneOf": [
                        {"allOf": [{"$ref": f"#/components/schemas/{kind.__name__}"}, _typed(call)]}
                        for call, kind in CALLS.items()
                    ]
                },
            },
            "context": {"type": ["object", "null"]},
            "integrations": _integrations(),
        },
        "required": ["batch"],
    }
    components["Errors"] = _ERRORS
    names = {call: kind.__name__ for call, kind in CALLS.items()}
    calls = names | {api_facts.BATCH_PATH.removeprefix("/"): "Batch"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": _TITLE,
            "version": "1",
            "description": "What is documented of the Customer.io Pipelines API, on this machine.",
        },
        "paths": {f"/v1/{call}": {"post": _operation(call, name)} for call, name in calls.items()}
        | {path: {"get": _simple(path)} for path in ("/health", "/ready")},
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "basic"}},
        },
        "security": [{"key": []}],
    }


def _operation(call: str, schema: str) -> dict[str, Any]:
    errors = {"application/json": {"schema": {"$ref": "#/components/schemas/Errors"}}}
    return {
        "operationId": call,
        "parameters": [
            {
                "name": api_facts.STRICT_HEADER[0],
                "in": "header",
                "required": False,
                "schema": {"type": "string", "enum": [api_facts.STRICT_HEADER[1]]},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        },
        "responses": {
            "200": {
                "description": "Taken; or, without strict mode, not.",
                "content": {"application/json": {"schema": {"type": "object", "maxProperties": 0}}},
            },
            **{
                status: {"description": text, "content": errors}
                for status, text in _STATUSES.items()
            },
        },
    }


def _simple(path: str) -> dict[str, Any]:
    return {
        "operationId": path.removeprefix("/"),
        "security": [],
        "responses": {
            "200": {
                "description": "It is.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": {"status": {"type": "string"}},
                            "required": ["status"],
                        }
                    }
                },
            }
        },
    }


def _typed(call: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": call}},
        "required": ["type"],
    }


def _integrations() -> dict[str, Any]:
    return {
        "type": ["object", "null"],
        "additionalProperties": {"type": ["boolean", "object", "null"]},
    }


def _completed(schema: dict[str, Any], call: str, kind: type[Message]) -> dict[str, Any]:
    """The schema of a call with what its check says beyond the types."""
    names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    properties = schema["properties"]
    needs_type = call in TYPED
    properties["type"] = {"const": call} if needs_type else {"enum": [call, None]}
    properties["integrations"] = _integrations()
    for name in ("context", "properties", "traits"):
        if name in properties:
            properties[name] = {"type": ["object", "null"]}
    properties["timestamp"] = {
        "type": ["string", "null"],
        "format": "date-time",
        "description": "With a zone.",
    }
    for name in kind.needs:
        number = name in ("group_id", "previous_id")
        kind_of = ["string", "integer"] if number else "string"
        properties[names[name]] = {"type": kind_of, "minLength": 1}
    filled = {"type": "string", "minLength": 1}
    found = schema | {
        "properties": properties,
        "required": [*(["type"] if needs_type else []), *(names[name] for name in kind.needs)],
    }
    if kind is not Group:
        found["anyOf"] = [
            {"properties": {name: filled}, "required": [name]} for name in ("userId", "anonymousId")
        ]
    return found
