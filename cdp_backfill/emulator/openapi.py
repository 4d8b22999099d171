"""The OpenAPI description of the emulator, made from the models that check its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp_backfill.emulator.models import CALLS, WRITE_KEY
from cdp_backfill.emulator.request_body import BODY_TYPES
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from cdp_backfill.emulator.models import Message
    from cdp_backfill.emulator.policy import Policy

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
    "401": "The API key is wrong or absent. Only in strict mode.",
    "413": "The body is too large to be read.",
    "415": "The body is not JSON, or its compression is not gzip.",
    "429": "Too many requests. Only as an injected fault.",
    "500": "Server error. Only as an injected fault.",
    "503": "Service unavailable. Only as an injected fault.",
}


_SENDER_FIELDS: Final = {
    "originalTimestamp": "Stored to be seen.",
    "sentAt": "Stored to be seen. Receivers that correct clocks shift times by it.",
    "channel": "Stored to be seen.",
    "_metadata": "Stored to be seen.",
    WRITE_KEY: "The API key, if there is no Authorization header. Not stored.",
}
"""Fields of any type that SDKs add."""


def description(policy: Policy) -> dict[str, Any]:
    """The description that the emulator serves at ``/openapi.json``.

    Args:
        policy: What the emulator does where the API is not documented.
    """
    _, components = msgspec.json.schema_components(
        tuple(CALLS.values()), ref_template="#/components/schemas/{name}"
    )
    for kind in CALLS.values():
        components[kind.__name__] = _complete_schema(components[kind.__name__], kind, policy)
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
            "context": {
                "type": ["object", "null"],
                "description": "The context of messages that have none of their own.",
            },
            "integrations": {
                "type": ["object", "null"],
                "description": "Has no effect: set them on each message.",
            },
            **{name: {"description": _SENDER_FIELDS[name]} for name in ("sentAt", WRITE_KEY)},
        },
        "required": ["batch"],
    }
    components["Errors"] = _ERRORS
    names = {f"/{call}": kind.__name__ for call, kind in CALLS.items()}
    calls = names | {api_facts.BATCH_PATH: "Batch"}
    calls |= {short: calls[path] for short, path in api_facts.SHORT_PATHS.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": _TITLE,
            "version": "1",
            "description": "The Customer.io Pipelines API as documented, on this machine.",
        },
        "paths": {f"/v1{path}": {"post": _operation(path, name)} for path, name in calls.items()}
        | {path: {"get": _health_operation(path)} for path in ("/health", "/ready")},
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "basic"}},
        },
        "security": [{"key": []}, {}],  # without a header, the key is in the body
    }


def _operation(path: str, schema: str) -> dict[str, Any]:
    errors = {"application/json": {"schema": {"$ref": "#/components/schemas/Errors"}}}
    body = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {
        "operationId": path.removeprefix("/"),
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
            "content": dict.fromkeys(BODY_TYPES, body),
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


def _complete_schema(schema: dict[str, Any], kind: type[Message], policy: Policy) -> dict[str, Any]:
    """The schema of a call with the rules that its types do not express."""
    names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    properties = schema["properties"]
    properties["type"] = {"enum": [kind.call, None]}
    properties["integrations"] = _integrations()
    for name in ("context", "properties", "traits"):
        if name in properties:
            properties[name] = {"type": ["object", "null"]}
    properties["timestamp"] = {
        "type": ["string", "null"],
        "format": "date-time",
        "description": "With a time zone.",
    }
    for name, text in _SENDER_FIELDS.items():
        properties[name] = {"description": text}
    id_types = ["string", "integer"] if policy.numeric_ids else ["string"]
    for name in kind.ids:
        properties[names[name]] = {"type": [*id_types, "null"]}
    for name in kind.required:
        types = id_types if name in kind.ids else ["string"]
        properties[names[name]] = {"type": types, "minLength": 1}
    complete = schema | {
        "properties": properties,
        "required": [names[name] for name in kind.required],
    }
    if kind.needs_person and not policy.without_person:
        complete["anyOf"] = [
            {"properties": {name: {"type": id_types, "minLength": 1}}, "required": [name]}
            for name in ("userId", "anonymousId")
        ]
    return complete
