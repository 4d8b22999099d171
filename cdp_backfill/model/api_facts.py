"""Facts about the Customer.io Pipelines API: hosts, limits, events and fields.

This is the one place for such facts. Each names its source:

* ``[S]`` the vendor's page "Pipelines API - Mobile App Events";
* ``[D]`` the vendor's other public documentation (and the Segment mobile spec it follows);
* ``[K]`` what the vendor's own open SDKs do;
* ``[N]`` the vendor's published description of the API, copy of 2026-09-17;
* ``[T]`` the vendor's Track API, the sister of this one;
* ``[?]`` not documented: a decision of this project.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

Kind = Literal[
    "text", "id", "version", "build", "boolean", "device_type", "os_name", "locale", "any"
]
"""How a value is written; see :data:`EVENTS` and :data:`CONTEXT`."""

Tree = dict[str, "Kind | Tree"]
"""Field names with the kind of their value, or with a tree of further fields."""

# --- servers and credentials ------------------------------------------------------------------

REGIONS: Final[dict[str, str]] = {
    "us": "https://cdp.customer.io/v1",
    "eu": "https://cdp-eu.customer.io/v1",
}
"""Base address of each region. [S]"""

API_KEY_VARIABLE: Final = "CUSTOMERIO_CDP_API_KEY"
"""Environment variable that holds the API key. [?]"""

STRICT_HEADER: Final = ("X-Strict-Mode", "1")
"""With it, wrong data gets 400 or 401; without it, 200, and the data is dropped. [S]"""

BATCH_PATH: Final = "/batch"
"""Path of the call with many messages, below the base address. [D]"""

SHORT_PATHS: Final = {
    "/i": "/identify",
    "/t": "/track",
    "/p": "/page",
    "/s": "/screen",
    "/g": "/group",
    "/a": "/alias",
    "/b": BATCH_PATH,
}
"""Paths of the calls in the native SDKs, which only use ``/b``, and in the browser's. [K]"""

# --- limits -----------------------------------------------------------------------------------

MAX_MESSAGE_BYTES: Final = 32_000
"""Bytes of the largest message: 32 KB [D] of 1,000 bytes, before compression. [?]"""

MAX_REQUEST_BYTES: Final = 500_000
"""Bytes of the largest request body: 500 KB [D] of 1,000 bytes, before compression. [?]"""

MAX_REQUEST_MESSAGES: Final = 2_500
"""Most messages in a request: the limit of a sister API; this API documents none. [?]"""

REQUESTS_PER_SECOND: Final = 1_000.0
"""Requests per second: 3,000 in 3 seconds, for live traffic and backfills together. [D]"""

RECENT_HOURS: Final = 72
"""Hours: a more recent event can trigger campaigns and messages to people. [D]"""

ANONYMOUS_DAYS: Final = 30
"""Days: an older event of an anonymous id alone joins nobody who is identified later. [D][T]"""

PERSON_ID_BYTES: Final = 150
"""Bytes of the longest id of a person [T]; whether this API enforces it is not known."""

EVENT_NAME_BYTES: Final = 100
"""Bytes of the longest event name [T]; whether this API enforces it is not known."""

APP_STORES: Final = "2008-07-10"
"""Day on which the first app store opened; no mobile-app event is older. [?]"""

FUTURE_HOURS: Final = 24
"""Hours by which a time may lie in the future, because clocks of devices are wrong. [?]"""

# --- a track message ----------------------------------------------------------------------------

MESSAGE_TYPE: Final = "track"
"""Value of ``type`` in every message of this project. [S]"""

MESSAGE_FIELDS: Final = (
    "userId",
    "anonymousId",
    "event",
    "timestamp",
    "properties",
    "context",
    "integrations",
)
"""Fields of a track message beside ``type`` and ``messageId``, in this order. [S][D]"""

IDENTIFY_FIELDS: Final = ("userId", "anonymousId", "traits", "integrations")
"""Fields of an identify message beside ``type`` and ``messageId``, in this order. [D][K]"""


class Event(StrEnum):
    """The seven mobile-app events. [S].

    >>> Event.INSTALLED
    <Event.INSTALLED: 'Application Installed'>
    """

    INSTALLED = "Application Installed"
    OPENED = "Application Opened"
    BACKGROUNDED = "Application Backgrounded"
    FOREGROUNDED = "Application Foregrounded"
    UPDATED = "Application Updated"
    UNINSTALLED = "Application Uninstalled"
    CRASHED = "Application Crashed"


EVENTS: Final[dict[str, Tree]] = {
    Event.INSTALLED.value: {"version": "version", "build": "build"},
    Event.OPENED.value: {
        "from_background": "boolean",
        "referring_application": "text",
        "url": "text",
        "version": "version",
        "build": "build",
    },
    Event.BACKGROUNDED.value: {},
    Event.FOREGROUNDED.value: {},
    Event.UPDATED.value: {
        "previous_version": "version",
        "previous_build": "build",
        "version": "version",
        "build": "build",
    },
    Event.UNINSTALLED.value: {},
    Event.CRASHED.value: {},
}
"""Documented properties of the seven events. [D] Others are allowed."""

PROPERTIES: Final[Tree] = {
    name: kind for properties in EVENTS.values() for name, kind in properties.items()
}
"""Every documented property; it has the same kind in all events that have it. [D]"""

COMMANDS: Final = (
    "User Deleted",
    "User Suppressed",
    "User Unsuppressed",
    "Device Created or Updated",
    "Device Deleted",
    "Relationship Deleted",
    "Object Deleted",
    "Report Delivery Event",
    "Report Content Event",
    "Delete Person",
)
"""Event names that make the API delete or change people, devices and objects. [N][D]"""

DEVICE_EVENTS: Final = (Event.INSTALLED, Event.OPENED, Event.UNINSTALLED)
"""Events that create, update or delete the device whose push token they carry. [?]"""

ANY_NAME: Final = "*"
"""In a :data:`Tree`: further names are known, too."""

CONTEXT: Final[Tree] = {
    "active": "boolean",
    "app": {"name": "text", "version": "version", "build": "build", "namespace": "text"},
    "campaign": {
        "name": "text",
        "source": "text",
        "medium": "text",
        "term": "text",
        "content": "text",
        ANY_NAME: "text",
    },
    "channel": "text",
    "device": {
        "id": "id",
        "advertisingId": "id",
        "adTrackingEnabled": "boolean",
        "manufacturer": "text",
        "model": "text",
        "name": "text",
        "type": "device_type",
        "token": "id",
        "version": "version",
    },
    "groupId": "text",
    "instanceId": "text",
    "ip": "text",
    "library": {"name": "text", "version": "version"},
    "locale": "locale",
    "location": {
        "city": "text",
        "country": "text",
        "latitude": "any",
        "longitude": "any",
        "region": "text",
        "speed": "any",
    },
    "network": {
        "bluetooth": "boolean",
        "carrier": "text",
        "cellular": "boolean",
        "wifi": "boolean",
    },
    "os": {"name": "os_name", "version": "version"},
    "page": {
        "keywords": "any",
        "name": "text",
        "path": "text",
        "referrer": "text",
        "search": "text",
        "title": "text",
        "url": "text",
    },
    "referrer": {"id": "text", "link": "text", "name": "text", "type": "text", "url": "text"},
    "screen": {"density": "any", "height": "any", "width": "any"},
    "timezone": "text",
    "traits": "any",
    "userAgent": "text",
}
"""Documented fields of ``context``. [S][D][K][N]"""

DEVICE_TYPES: Final = {
    **dict.fromkeys(("android", "androidos", "fireos", "wearos"), "android"),
    **dict.fromkeys(
        ("ios", "iphone", "iphoneos", "ipad", "ipados", "tvos", "visionos", "watchos"), "ios"
    ),
}
"""Values of ``context.device.type``, ``android`` and ``ios`` [D], by what means them: letters only,
in lower case. Apple's SDK sends ``ios`` for its other systems, too. [K]"""

OS_NAMES: Final = {
    "android": "Android",
    "androidos": "Android",
    "ios": "iOS",
    "iphoneos": "iOS",
    "ipados": "iPadOS",
    "tvos": "tvOS",
    "visionos": "visionOS",
    "watchos": "watchOS",
}
"""Values of ``context.os.name`` as the SDKs write them [K], by what means them, as above."""
