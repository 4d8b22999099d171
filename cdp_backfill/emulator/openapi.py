"""The OpenAPI description of the emulator, made from the models that check its calls."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cdp_backfill.emulator.models import CALLS, TYPE_REQUIRED, Group, Message
from cdp_backfill.model import api_facts

_TITLE: Final = "Pipelines API sandbox"

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
    "400": "Invalid request. Without strict mode, only for a body that cannot be read.",
    "401": "The API key is wrong. Only in strict mode.",
    "413": "The body is too large to be read.",
    "415": "The body is not JSON, or its compression is not gzip.",
    "429": "Too many requests. Only as an injected fault.",
    "500": "Server error. Only as an injected fault.",
    "503": "Service unavailable. Only as an injected fault.",
}


def description() -> dict[str, Any]:
    """The description that the emulator serves at ``/openapi.json``."""
    _, components = msgspec.json.schema_components(
        tuple(CALLS.values()), ref_template="#/components/schemas/{name}"
    )
    for call, kind in CALLS.items():
        components[kind.__name__] = _complete_schema(components[kind.__name__], call, kind)
    components["Batch"] = {
        "title": "Batch",
        "type": "object",
        "properties": {
            "batch": {
                "type": "array",
                "items": {
                    "oneOf": [
                        {
                            "allOf": [
                                {"$ref": f"#/components/schemas/{kind.__name__}"},
                                _type_schema(call),
                            ]
                        }
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
            "description": "The Customer.io Pipelines API as documented, on this machine.",
        },
        "paths": {f"/v1/{call}": {"post": _operation(call, name)} for call, name in calls.items()}
        | {path: {"get": _health_operation(path)} for path in ("/health", "/ready")},
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
                "description": "Accepted. Without strict mode, invalid messages are dropped.",
                "content": {"application/json": {"schema": {"type": "object", "maxProperties": 0}}},
            },
            **{
                status: {"description": text, "content": errors}
                for status, text in _STATUSES.items()
            },
        },
    }


def _health_operation(path: str) -> dict[str, Any]:
    return {
        "operationId": path.removeprefix("/"),
        "security": [],
        "responses": {
            "200": {
                "description": "The server runs.",
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


def _type_schema(call: str) -> dict[str, Any]:
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


def _complete_schema(schema: dict[str, Any], call: str, kind: type[Message]) -> dict[str, Any]:
    """The schema of a call with the rules that its types do not express."""
    names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    properties = schema["properties"]
    needs_type = call in TYPE_REQUIRED
    properties["type"] = {"const": call} if needs_type else {"enum": [call, None]}
    properties["integrations"] = _integrations()
    for name in ("context", "properties", "traits"):
        if name in properties:
            properties[name] = {"type": ["object", "null"]}
    properties["timestamp"] = {
        "type": ["string", "null"],
        "format": "date-time",
        "description": "With a time zone.",
    }
    for name in kind.required:
        can_be_number = name in ("group_id", "previous_id")
        json_type = ["string", "integer"] if can_be_number else "string"
        properties[names[name]] = {"type": json_type, "minLength": 1}
    non_empty = {"type": "string", "minLength": 1}
    complete = schema | {
        "properties": properties,
        "required": [*(["type"] if needs_type else []), *(names[name] for name in kind.required)],
    }
    if kind is not Group:
        complete["anyOf"] = [
            {"properties": {name: non_empty}, "required": [name]}
            for name in ("userId", "anonymousId")
        ]
    return complete
