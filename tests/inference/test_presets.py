"""Presets: what the export of each vendor becomes, field by field."""

from __future__ import annotations

import io
import json
import tomllib
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import cdp_backfill as cdp
from cdp_backfill.inference import presets
from cdp_backfill.inference.column_names import fold

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

INSTALLED, OPENED, UPDATED = "Application Installed", "Application Opened", "Application Updated"
FOREGROUNDED, BACKGROUNDED = "Application Foregrounded", "Application Backgrounded"
UNINSTALLED, CRASHED = "Application Uninstalled", "Application Crashed"

IDFA = "5C2F1E90-7D31-4B6A-9A41-0D3C6B7E1F22"
GAID = "c0ffee11-2222-4333-8444-555566667777"


@dataclass(frozen=True)
class Case:
    """An export and what must arrive of it.

    Attributes:
        slug: What it is.
        preset: The expected preset.
        frame: The table.
        arrives: The messages in the order of the rows; an id that is made up is left out.
    """

    slug: str
    preset: str
    frame: pd.DataFrame
    arrives: list[dict[str, Any]]


def rows(*cells: dict[str, Any]) -> pd.DataFrame:
    """A table of these rows."""
    return pd.DataFrame(list(cells))


def csv(text: str) -> pd.DataFrame:
    """A table of CSV text."""
    return pd.read_csv(io.StringIO(text.strip()))


def said(event: str, time: str, **fields: Any) -> dict[str, Any]:
    """A message: ids under the names of the API, and the properties and the context."""
    return {"event": event, "timestamp": time, "properties": {}, "context": {}} | fields


def arrived(box: Sandbox) -> list[dict[str, Any]]:
    """The messages in the box as :func:`said` has them."""
    actual = []
    for row in box.events().to_dict("records"):
        message = said(
            row["event"],
            row["timestamp"].strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            properties=row["properties"] or {},
            context=row["context"] or {},
        )
        for name in ("userId", "anonymousId", "messageId"):
            if isinstance(row[name], str) and not row[name].startswith("cdp1-"):
                message[name] = row[name]
        actual.append(message)
    return actual


def param(key: str, **value: Any) -> dict[str, Any]:
    """A parameter of GA4 as BigQuery nests it."""
    empty = dict.fromkeys(("string_value", "int_value", "float_value", "double_value"))
    return {"key": key, "value": empty | value}


def ga4_row(name: str, micros: int, *params: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A row of GA4 in BigQuery."""
    row: dict[str, Any] = {
        "event_date": "20240309",
        "event_timestamp": micros,
        "event_name": name,
        "event_params": list(params),
        "user_id": None,
        "user_pseudo_id": "pseudo-71",
        "device": {
            "mobile_brand_name": "Google",
            "mobile_model_name": "Pixel 6a",
            "operating_system": "Android",
            "operating_system_version": "Android 14",
            "language": "nb-no",
            "advertising_id": GAID,
        },
        "geo": {"city": "Bergen", "country": "Norway", "region": "Vestland"},
        "app_info": {"id": "no.fjord.app", "version": "5.0.1"},
        "platform": "ANDROID",
    }
    return row | more


GA4_CONTEXT = {
    "locale": "nb-no",
    "app": {"namespace": "no.fjord.app"},
    "device": {"advertisingId": GAID, "manufacturer": "Google", "model": "Pixel 6a"},
    "location": {"city": "Bergen", "country": "Norway", "region": "Vestland"},
    "os": {"name": "Android", "version": "14"},
}

GA4 = Case(
    "ga4",
    "ga4",
    rows(
        ga4_row(
            "first_open",
            1_709_985_600_123_456,
            param("previous_first_open_count", int_value=0),
            param("firebase_conversion", int_value=1),
        ),
        ga4_row("session_start", 1_709_985_601_000_000, param("ga_session_id", int_value=77)),
        ga4_row("user_engagement", 1_709_985_602_000_000),
        ga4_row(
            "app_update",
            1_709_985_603_500_000,
            param("previous_app_version", string_value="4.9"),
            user_id="cust-5",
        ),
        ga4_row("app_exception", 1_709_985_604_000_000, param("fatal", int_value=1)),
        ga4_row("app_exception", 1_709_985_605_000_000, param("fatal", int_value=0)),
        ga4_row("app_remove", 1_709_985_606_000_000),
        ga4_row("session_start", 1_709_985_607_000_000, platform="WEB"),
    ),
    [
        said(
            INSTALLED,
            "2024-03-09T12:00:00.123Z",
            anonymousId="pseudo-71",
            properties={
                "version": "5.0.1",
                "previous_first_open_count": 0,
                "firebase_conversion": 1,
            },
            context=GA4_CONTEXT,
        ),
        said(
            OPENED,
            "2024-03-09T12:00:01.000Z",
            anonymousId="pseudo-71",
            properties={"version": "5.0.1", "ga_session_id": 77},
            context=GA4_CONTEXT,
        ),
        said(
            UPDATED,
            "2024-03-09T12:00:03.500Z",
            userId="cust-5",
            anonymousId="pseudo-71",
            properties={
                "version": "5.0.1",
                "previous_version": "4.9",
                "previous_app_version": "4.9",
            },
            context=GA4_CONTEXT,
        ),
        said(
            CRASHED,
            "2024-03-09T12:00:04.000Z",
            anonymousId="pseudo-71",
            properties={"version": "5.0.1", "fatal": 1},
            context=GA4_CONTEXT,
        ),
        said(
            UNINSTALLED,
            "2024-03-09T12:00:06.000Z",
            anonymousId="pseudo-71",
            properties={"version": "5.0.1"},
            context=GA4_CONTEXT,
        ),
    ],
)

GA4_FLAT = Case(
    "ga4_flat",
    "ga4_flat",
    csv("""
name,timestamp,user_id,user_pseudo_id,bundle_sequence_id,device_category,platform,geo_country,\
device_operating_system,device_operating_system_version,device_mobile_model_name,app_info_version,\
param_fatal,param_previous_app_version
first_open,2024-05-02 08:00:00.250,,p-1,7,mobile,ANDROID,Chile,Android,Android 13,SM-A536B,2.4,,
session_start,2024-05-02 08:00:01,u-1,p-1,8,mobile,IOS,Chile,,,,2.4,,
app_update,2024-05-02 08:00:02,u-1,p-1,9,mobile,ANDROID,Chile,Android,13,SM-A536B,2.5,,2.4
app_exception,2024-05-02 08:00:03,u-1,p-1,10,mobile,ANDROID,,,,,2.5,1,
app_exception,2024-05-02 08:00:04,u-1,p-1,11,mobile,ANDROID,,,,,2.5,0,
session_start,2024-05-02 08:00:05,u-2,p-2,12,desktop,web,Peru,,,,,,
scroll,2024-05-02 08:00:06,u-2,p-2,13,mobile,app,Peru,,,,,,
app_remove,2024-05-02 08:00:07,,p-2,14,mobile,app,Peru,,,,2.5,,
"""),
    [
        said(
            INSTALLED,
            "2024-05-02T08:00:00.250Z",
            anonymousId="p-1",
            properties={"version": "2.4"},
            context={
                "device": {"model": "SM-A536B"},
                "location": {"country": "Chile"},
                "os": {"name": "Android", "version": "13"},
            },
        ),
        said(
            OPENED,
            "2024-05-02T08:00:01.000Z",
            userId="u-1",
            anonymousId="p-1",
            properties={"version": "2.4"},
            context={"location": {"country": "Chile"}, "os": {"name": "IOS"}},
        ),
        said(
            UPDATED,
            "2024-05-02T08:00:02.000Z",
            userId="u-1",
            anonymousId="p-1",
            properties={"version": "2.5", "previous_version": "2.4"},
            context={
                "device": {"model": "SM-A536B"},
                "location": {"country": "Chile"},
                "os": {"name": "Android", "version": "13"},
            },
        ),
        said(
            CRASHED,
            "2024-05-02T08:00:03.000Z",
            userId="u-1",
            anonymousId="p-1",
            properties={"version": "2.5"},
            context={"os": {"name": "ANDROID"}},
        ),
        said(
            UNINSTALLED,
            "2024-05-02T08:00:07.000Z",
            anonymousId="p-2",
            properties={"version": "2.5"},
            context={"location": {"country": "Peru"}},
        ),
    ],
)


def crashlytics_row(event_id: str, **more: Any) -> dict[str, Any]:
    """A row of Crashlytics in BigQuery."""
    row: dict[str, Any] = {
        "platform": "ANDROID",
        "bundle_identifier": "com.kiosk.reader",
        "event_id": event_id,
        "is_fatal": True,
        "error_type": "FATAL",
        "issue_id": "iss-9",
        "event_timestamp": pd.Timestamp("2025-01-07T21:14:05.678901Z"),
        "received_timestamp": pd.Timestamp("2025-01-07T22:00:00Z"),
        "installation_uuid": "inst-a",
        "device": {"manufacturer": "Xiaomi", "model": "Redmi 12", "architecture": "ARM64"},
        "operating_system": {"display_version": "13", "name": "Android", "type": None},
        "application": {"build_version": "310", "display_version": "3.1.0"},
        "user": {"id": "reader-8", "name": None, "email": None},
        "exceptions": [
            {
                "type": "java.lang.IllegalStateException",
                "exception_message": "No page",
                "frames": [],
            }
        ],
        "custom_keys": [{"key": "shelf", "value": "blue"}],
    }
    return row | more


CRASHLYTICS = Case(
    "crashlytics",
    "crashlytics",
    rows(
        crashlytics_row("ev-1"),
        crashlytics_row("ev-2", error_type="NON_FATAL", is_fatal=False),
        crashlytics_row("ev-3", error_type="ANR", is_fatal=False),
        crashlytics_row("ev-4", error_type=None, is_fatal=False),
        crashlytics_row(
            "ev-5",
            error_type=None,
            platform="IOS",
            user={"id": None, "name": None, "email": None},
            device={"manufacturer": "Apple", "model": "iPhone14,5", "architecture": "ARM64"},
            operating_system={"display_version": "17.2.1", "name": "iOS", "type": "IOS"},
            exceptions=[],
        ),
    ),
    [
        said(
            CRASHED,
            "2025-01-07T21:14:05.678Z",
            userId="reader-8",
            anonymousId="inst-a",
            messageId="ev-1",
            properties={
                "version": "3.1.0",
                "build": "310",
                "kind": "java.lang.IllegalStateException",
                "reason": "No page",
                "issue": "iss-9",
            },
            context={
                "app": {"namespace": "com.kiosk.reader"},
                "device": {"manufacturer": "Xiaomi", "model": "Redmi 12"},
                "os": {"name": "Android", "version": "13"},
            },
        ),
        said(
            CRASHED,
            "2025-01-07T21:14:05.678Z",
            anonymousId="inst-a",
            messageId="ev-5",
            properties={"version": "3.1.0", "build": "310", "issue": "iss-9"},
            context={
                "app": {"namespace": "com.kiosk.reader"},
                "device": {"manufacturer": "Apple", "model": "iPhone14,5"},
                "os": {"name": "iOS", "version": "17.2.1"},
            },
        ),
    ],
)

APPSFLYER_ROWS = f"""
install,2023-08-14 09:30:15,2023-08-14 09:30:15,169-1,,ios,{IDFA},,4.2,16.5,iPhone 13,Lyon
af_app_opened,2023-08-14 09:31:00,2023-08-14 09:30:15,169-1,c-40,ios,{IDFA},,4.2,16.5,iPhone 13,Lyon
af_purchase,2023-08-14 09:32:00,2023-08-14 09:30:15,169-1,c-40,ios,{IDFA},,4.2,16.5,iPhone 13,Lyon
af_app_opened,2023-08-14 09:33:00,2023-08-14 09:30:15,169-2,c-41,web,,,,,,Lyon
reinstall,2023-08-15 00:00:01,2023-08-15 00:00:01,169-3,c-42,android,,{GAID},4.3,13,Pixel 7,N/A
uninstall,2023-08-16 04:00:00,2023-08-15 00:00:01,169-3,c-42,android,,{GAID},4.3,13,Pixel 7,N/A
"""
APPSFLYER_ARRIVES = [
    said(
        INSTALLED,
        "2023-08-14T09:30:15.000Z",
        anonymousId="169-1",
        properties={"version": "4.2"},
        context={
            "device": {"advertisingId": IDFA, "model": "iPhone 13"},
            "location": {"city": "Lyon"},
            "os": {"name": "ios", "version": "16.5"},
        },
    ),
    said(
        OPENED,
        "2023-08-14T09:31:00.000Z",
        userId="c-40",
        anonymousId="169-1",
        properties={"version": "4.2"},
        context={
            "device": {"advertisingId": IDFA, "model": "iPhone 13"},
            "location": {"city": "Lyon"},
            "os": {"name": "ios", "version": "16.5"},
        },
    ),
    said(
        INSTALLED,
        "2023-08-15T00:00:01.000Z",
        userId="c-42",
        anonymousId="169-3",
        properties={"version": "4.3"},
        context={
            "device": {"advertisingId": GAID, "model": "Pixel 7"},
            "os": {"name": "android", "version": "13"},
        },
    ),
    said(
        UNINSTALLED,
        "2023-08-16T04:00:00.000Z",
        userId="c-42",
        anonymousId="169-3",
        properties={"version": "4.3"},
        context={
            "device": {"advertisingId": GAID, "model": "Pixel 7"},
            "os": {"name": "android", "version": "13"},
        },
    ),
]
APPSFLYER = [
    Case(
        "appsflyer_data_locker",
        "appsflyer",
        pd.read_csv(
            io.StringIO(
                "event_name,event_time,install_time,appsflyer_id,customer_user_id,platform,idfa,"
                "advertising_id,app_version,os_version,device_model,city" + APPSFLYER_ROWS
            ),
            dtype=str,
        ),
        APPSFLYER_ARRIVES,
    ),
    Case(
        "appsflyer_export_page",
        "appsflyer",
        pd.read_csv(
            io.StringIO(
                "Event Name,Event Time,Install Time,AppsFlyer ID,Customer User ID,Platform,IDFA,"
                "Advertising ID,App Version,OS Version,Device Type,City" + APPSFLYER_ROWS
            ),
            dtype=str,
        ),
        APPSFLYER_ARRIVES,
    ),
]

ADJUST = Case(
    "adjust",
    "adjust",
    csv(f"""
{{activity_kind}},{{created_at}},{{installed_at}},{{adid}},{{idfa}},{{gps_adid}},[user_id],\
{{app_version}},{{os_name}},{{os_version}},{{device_name}},{{uninstalled_at}},{{country}}
install,1650000000,1650000000,adj-1,{IDFA},,,7.0.1,ios,15.4,iPhone12,,fr
session,1650000600,1650000000,adj-1,{IDFA},,m-3,7.0.1,ios,15.4,iPhone12,,fr
event,1650000700,1650000000,adj-1,{IDFA},,m-3,7.0.1,ios,15.4,iPhone12,,fr
click,1650000800,,adj-2,,{GAID},,,android,,,,de
uninstall,1650100000,1650000000,adj-2,,{GAID},m-4,7.0.2,android,12.0,SM-G991B,1650090000,de
"""),
    [
        said(
            INSTALLED,
            "2022-04-15T05:20:00.000Z",
            anonymousId="adj-1",
            properties={"version": "7.0.1"},
            context={
                "device": {"advertisingId": IDFA, "model": "iPhone12"},
                "location": {"country": "fr"},
                "os": {"name": "ios", "version": "15.4"},
            },
        ),
        said(
            OPENED,
            "2022-04-15T05:30:00.000Z",
            userId="m-3",
            anonymousId="adj-1",
            properties={"version": "7.0.1"},
            context={
                "device": {"advertisingId": IDFA, "model": "iPhone12"},
                "location": {"country": "fr"},
                "os": {"name": "ios", "version": "15.4"},
            },
        ),
        said(
            UNINSTALLED,
            "2022-04-16T06:20:00.000Z",
            userId="m-4",
            anonymousId="adj-2",
            properties={"version": "7.0.2"},
            context={
                "device": {"advertisingId": GAID, "model": "SM-G991B"},
                "location": {"country": "de"},
                "os": {"name": "android", "version": "12.0"},
            },
        ),
    ],
)

BRANCH_CONTEXT = {
    "device": {"advertisingId": GAID, "manufacturer": "OnePlus", "model": "CPH2399"},
    "os": {"name": "ANDROID", "version": "33"},
}
BRANCH_USER = {
    "os": "ANDROID",
    "os_version": "33",
    "brand": "OnePlus",
    "model": "CPH2399",
    "aaid": GAID,
    "android_id": "and-12",
    "developer_identity": None,
    "app_version": "9.9",
}
BRANCH_ARRIVES = [
    said(
        INSTALLED,
        "2023-11-14T22:13:20.123Z",
        anonymousId="and-12",
        messageId="801",
        properties={"version": "9.9", "deep_linked": True},
        context=BRANCH_CONTEXT,
    ),
    said(
        OPENED,
        "2023-11-14T22:13:21.000Z",
        userId="dev-77",
        anonymousId="and-12",
        messageId="802",
        properties={"version": "9.9", "deep_linked": False},
        context=BRANCH_CONTEXT,
    ),
]
BRANCH = [
    Case(
        "branch_webhook",
        "branch",
        rows(
            *(
                {
                    "id": number,
                    "name": name,
                    "timestamp": millis,
                    "origin": "API",
                    "deep_linked": linked,
                    "last_attributed_touch_type": "CLICK",
                    "last_attributed_touch_data": {"~channel": "mail"},
                    "user_data": BRANCH_USER | {"developer_identity": user},
                }
                for number, name, millis, linked, user in (
                    (801, "INSTALL", 1_700_000_000_123, True, None),
                    (802, "OPEN", 1_700_000_001_000, False, "dev-77"),
                    (803, "PURCHASE", 1_700_000_002_000, False, "dev-77"),
                    (804, "WEB_SESSION_START", 1_700_000_003_000, False, "dev-77"),
                )
            )
        ),
        BRANCH_ARRIVES,
    ),
    Case(
        "branch_export",
        "branch",
        csv(f"""
id,name,timestamp,deep_linked,last_attributed_touch_type,user_data_os,user_data_os_version,\
user_data_brand,user_data_model,user_data_aaid,user_data_android_id,user_data_idfa,\
user_data_developer_identity,user_data_app_version
801,install,1700000000123,true,CLICK,ANDROID,33,OnePlus,CPH2399,{GAID},and-12,,,9.9
802,open,1700000001000,false,,ANDROID,33,OnePlus,CPH2399,{GAID},and-12,,dev-77,9.9
803,click,1700000002000,false,,ANDROID,33,OnePlus,CPH2399,{GAID},and-12,,dev-77,9.9
"""),
        BRANCH_ARRIVES,
    ),
]


def amplitude_row(kind: str, time: str, uuid: str, **more: Any) -> dict[str, Any]:
    """A line of Amplitude's export."""
    row: dict[str, Any] = {
        "event_type": kind,
        "event_time": time,
        "client_event_time": "2001-01-01 00:00:00.000000",
        "server_upload_time": "2024-10-01 00:00:00.000000",
        "amplitude_id": 8_123_456_789_012,
        "device_id": "dev-R",
        "user_id": None,
        "uuid": uuid,
        "$insert_id": f"ins-{uuid}",
        "session_id": -1,
        "platform": "iOS",
        "os_name": "ios",
        "os_version": "17.6",
        "device_family": "Apple iPhone",
        "device_type": "Apple iPhone 15",
        "device_manufacturer": "Apple",
        "idfa": IDFA,
        "adid": None,
        "version_name": "6.1",
        "start_version": "1.0",
        "country": "Japan",
        "event_properties": {},
        "user_properties": {"plan": "gold"},
    }
    return row | more


AMPLITUDE_CONTEXT = {
    "device": {"advertisingId": IDFA, "manufacturer": "Apple", "model": "Apple iPhone 15"},
    "location": {"country": "Japan"},
    "os": {"name": "ios", "version": "17.6"},
}
AMPLITUDE_ROWS = [
    amplitude_row(
        "[Amplitude] Application Installed",
        "2024-09-30 23:59:59.987000",
        "uu-1",
        event_properties={"[Amplitude] Version": "6.2", "[Amplitude] Build": "620"},
    ),
    amplitude_row(
        "[Amplitude] Application Opened",
        "2024-10-01 00:00:00.000000",
        "uu-2",
        user_id="jun@example.com",
        event_properties={"[Amplitude] From Background": True, "theme": "dark"},
    ),
    amplitude_row("session_start", "2024-10-01 00:00:01.000000", "uu-3"),
    amplitude_row(
        "[Amplitude] Application Updated",
        "2024-10-02 10:00:00.500000",
        "uu-4",
        event_properties={
            "[Amplitude] Version": "6.3",
            "[Amplitude] Build": "630",
            "[Amplitude] Previous Version": "6.2",
            "[Amplitude] Previous Build": "620",
        },
    ),
    amplitude_row("[Amplitude] Application Backgrounded", "2024-10-02 10:05:00.000000", "uu-5"),
    amplitude_row(
        "[Amplitude] Application Opened", "2024-10-02 10:06:00.000000", "uu-6", platform="Web"
    ),
]
AMPLITUDE_ARRIVES = [
    said(
        INSTALLED,
        "2024-09-30T23:59:59.987Z",
        anonymousId="dev-R",
        messageId="uu-1",
        properties={"version": "6.2", "build": "620"},
        context=AMPLITUDE_CONTEXT,
    ),
    said(
        OPENED,
        "2024-10-01T00:00:00.000Z",
        userId="jun@example.com",
        anonymousId="dev-R",
        messageId="uu-2",
        properties={"version": "6.1", "from_background": True, "theme": "dark"},
        context=AMPLITUDE_CONTEXT,
    ),
    said(
        UPDATED,
        "2024-10-02T10:00:00.500Z",
        anonymousId="dev-R",
        messageId="uu-4",
        properties={
            "version": "6.3",
            "build": "630",
            "previous_version": "6.2",
            "previous_build": "620",
        },
        context=AMPLITUDE_CONTEXT,
    ),
    said(
        BACKGROUNDED,
        "2024-10-02T10:05:00.000Z",
        anonymousId="dev-R",
        messageId="uu-5",
        properties={"version": "6.1"},
        context=AMPLITUDE_CONTEXT,
    ),
]
AMPLITUDE = [
    Case("amplitude_export", "amplitude", rows(*AMPLITUDE_ROWS), AMPLITUDE_ARRIVES),
    Case(
        "amplitude_warehouse",
        "amplitude",
        rows(
            *(
                {
                    name.upper(): json.dumps(cell) if isinstance(cell, dict) else cell
                    for name, cell in row.items()
                    if not name.startswith("$")
                }
                for row in AMPLITUDE_ROWS
            )
        ),
        AMPLITUDE_ARRIVES,
    ),
]

MIXPANEL = Case(
    "mixpanel",
    "mixpanel",
    rows(
        *(
            {
                "name": name,
                "time": time,
                "distinct_id": who,
                "device_id": device,
                "insert_id": f"mx-{number}",
                "mp_lib": library,
                "app_version_string": "8.0",
                "app_build_number": "4100",
                "os": "Android",
                "os_version": "12",
                "manufacturer": "Sony",
                "model": "XQ-DC54",
                "properties": json.dumps(more),
            }
            for number, name, time, who, device, library, more in (
                (
                    1,
                    "$ae_first_open",
                    "2023-02-01 01:02:03.004",
                    "$device:d-6",
                    None,
                    "android",
                    {},
                ),
                (
                    2,
                    "$ae_updated",
                    "2023-02-02 01:02:03",
                    "user-6",
                    "d-6",
                    "android",
                    {"$ae_updated_version": "8.0", "tier": 2},
                ),
                (
                    3,
                    "$ae_crashed",
                    "2023-02-03 01:02:03",
                    "d-6",
                    "d-6",
                    "android",
                    {"$ae_crashed_reason": "SIGABRT"},
                ),
                (4, "$ae_session", "2023-02-04 01:02:03", "user-6", "d-6", "android", {}),
                (5, "Application Opened", "2023-02-05 01:02:03", "user-6", "d-6", "web", {}),
                (6, "Application Opened", "2023-02-06 01:02:03", "user-6", "d-6", "android", {}),
            )
        )
    ),
    [
        said(
            event,
            time,
            anonymousId="d-6",
            messageId=f"mx-{number}",
            properties={"version": "8.0", "build": "4100"} | more,
            context={
                "device": {"manufacturer": "Sony", "model": "XQ-DC54"},
                "os": {"name": "Android", "version": "12"},
            },
            **ids,
        )
        for number, event, time, ids, more in (
            (1, INSTALLED, "2023-02-01T01:02:03.004Z", {}, {}),
            (2, UPDATED, "2023-02-02T01:02:03.000Z", {"userId": "user-6"}, {"tier": 2}),
            (3, CRASHED, "2023-02-03T01:02:03.000Z", {}, {"reason": "SIGABRT"}),
            (6, OPENED, "2023-02-06T01:02:03.000Z", {"userId": "user-6"}, {}),
        )
    ],
)


def mixpanel_line(event: str, number: int, seconds: float, **more: Any) -> dict[str, Any]:
    """A line of Mixpanel's raw export."""
    return {
        "event": event,
        "properties": {
            "time": seconds,
            "distinct_id": "$device:d-90",
            "$insert_id": f"raw-{number}",
            "$device_id": "d-90",
            "$app_version_string": "2.0.3",
            "$app_build_number": "4077",
            "$os": "iOS",
            "$os_version": "16.0",
            "$manufacturer": "Apple",
            "$model": "iPad13,1",
            "$city": "Porto",
            "mp_country_code": "PT",
            "mp_lib": "swift",
            "mp_processing_time_ms": 1_680_000_000_999,
        }
        | more,
    }


MIXPANEL_LINES = [
    mixpanel_line("$ae_first_open", 1, 1_680_000_000),
    mixpanel_line(
        "$ae_updated",
        2,
        1_680_000_060,
        **{"distinct_id": "u-90", "$user_id": "u-90", "$ae_updated_version": "2.0.3", "beta": True},
    ),
    mixpanel_line("$ae_session", 3, 1_680_000_120, **{"$ae_session_length": 44.5}),
    mixpanel_line("$ae_crashed", 4, 1_680_000_180, **{"$ae_crashed_reason": "out of range"}),
    mixpanel_line("Application Opened", 5, 1_680_000_240, mp_lib="web"),
]
MIXPANEL_CONTEXT = {
    "device": {"manufacturer": "Apple", "model": "iPad13,1"},
    "location": {"city": "Porto", "country": "PT"},
    "os": {"name": "iOS", "version": "16.0"},
}
MIXPANEL_ARRIVES = [
    said(
        event,
        time,
        anonymousId="d-90",
        messageId=f"raw-{number}",
        properties={"version": "2.0.3", "build": "4077"} | more,
        context=MIXPANEL_CONTEXT,
        **ids,
    )
    for number, event, time, ids, more in (
        (1, INSTALLED, "2023-03-28T10:40:00.000Z", {}, {}),
        (2, UPDATED, "2023-03-28T10:41:00.000Z", {"userId": "u-90"}, {"beta": True}),
        (4, CRASHED, "2023-03-28T10:43:00.000Z", {}, {"reason": "out of range"}),
    )
]
MIXPANEL_EXPORT = [
    Case("mixpanel_export_nested", "mixpanel_export", rows(*MIXPANEL_LINES), MIXPANEL_ARRIVES),
    Case(
        "mixpanel_export_text",
        "mixpanel_export",
        rows(
            *(line | {"properties": json.dumps(line["properties"])} for line in MIXPANEL_LINES),
        ),
        MIXPANEL_ARRIVES,
    ),
]


def segment_row(event: str, number: int, time: str, **more: Any) -> dict[str, Any]:
    """A row of Segment in a warehouse."""
    row: dict[str, Any] = {
        "id": f"seg-{number}",
        "event": event.lower().replace(" ", "_"),
        "event_text": event,
        "anonymous_id": "an-3",
        "user_id": None,
        "timestamp": pd.Timestamp(time),
        "original_timestamp": pd.Timestamp("1999-01-01T00:00:00"),
        "sent_at": pd.Timestamp("1999-01-01T00:00:05"),
        "received_at": pd.Timestamp("2022-12-01T00:00:00"),
        "context_app_name": "Larder",
        "context_app_version": "1.8",
        "context_app_build": "108",
        "context_device_id": "vend-3",
        "context_device_model": "iPhone11,8",
        "context_device_manufacturer": "Apple",
        "context_device_type": "ios",
        "context_device_token": "secret-token",
        "context_library_name": "analytics-ios",
        "context_locale": "pt-BR",
        "context_os_name": "iOS",
        "context_os_version": "15.7",
    }
    return row | more


SEGMENT_CONTEXT = {
    "locale": "pt-BR",
    "app": {"name": "Larder", "version": "1.8", "build": "108"},
    "device": {"id": "vend-3", "manufacturer": "Apple", "model": "iPhone11,8", "type": "ios"},
    "library": {"name": "analytics-ios"},
    "os": {"name": "iOS", "version": "15.7"},
}
SEGMENT = [
    Case(
        "segment_tracks",
        "segment",
        rows(
            segment_row(INSTALLED, 1, "2022-11-30T10:00:00.111"),
            segment_row(FOREGROUNDED, 2, "2022-11-30T10:00:01", user_id="eater-1"),
            segment_row("Order Completed", 3, "2022-11-30T10:00:02", user_id="eater-1"),
            segment_row(OPENED, 4, "2022-11-30T10:00:03", context_library_name="analytics.js"),
            segment_row(BACKGROUNDED, 5, "2022-11-30T10:00:04", event_text=None),
        ),
        [
            said(
                INSTALLED,
                "2022-11-30T10:00:00.111Z",
                anonymousId="an-3",
                messageId="seg-1",
                properties={"version": "1.8", "build": "108"},
                context=SEGMENT_CONTEXT,
            ),
            said(
                FOREGROUNDED,
                "2022-11-30T10:00:01.000Z",
                userId="eater-1",
                anonymousId="an-3",
                messageId="seg-2",
                properties={"version": "1.8", "build": "108"},
                context=SEGMENT_CONTEXT,
            ),
            said(
                BACKGROUNDED,
                "2022-11-30T10:00:04.000Z",
                anonymousId="an-3",
                messageId="seg-5",
                properties={"version": "1.8", "build": "108"},
                context=SEGMENT_CONTEXT,
            ),
        ],
    ),
    Case(
        "segment_event_table",
        "segment",
        rows(
            *(
                segment_row(
                    UPDATED,
                    number,
                    f"2022-11-30T10:00:0{number}",
                    version="1.9",
                    build=109,
                    previous_version="1.8",
                    previous_build=108,
                )
                for number in (6, 7, 8)
            )
        ),
        [
            said(
                UPDATED,
                f"2022-11-30T10:00:0{number}.000Z",
                anonymousId="an-3",
                messageId=f"seg-{number}",
                properties={
                    "version": "1.9",
                    "build": "109",
                    "previous_version": "1.8",
                    "previous_build": "108",
                },
                context=SEGMENT_CONTEXT,
            )
            for number in (6, 7, 8)
        ],
    ),
]

SNOWPLOW_FRAME = rows(
    *(
        {
            "event_id": f"sp-{number}",
            "event_name": name,
            "event_vendor": "com.snowplowanalytics.mobile",
            "event_fingerprint": f"fp-{number}",
            "derived_tstamp": f"2021-06-0{number} 07:08:09.123",
            "dvce_created_tstamp": "1980-01-01 00:00:00",
            "user_id": user,
            "geo_city": "Lund",
            "useragent": "App/1",
            "contexts_com_snowplowanalytics_snowplow_client_session_1_0_1": json.dumps(
                [{"user_id": "sess-user"}]
            ),
            "contexts_com_snowplowanalytics_snowplow_mobile_context_1_0_1": json.dumps(
                [
                    {
                        "osType": "ios",
                        "osVersion": "14.6",
                        "deviceModel": "iPhone 8",
                        "deviceManufacturer": "Apple Inc.",
                    }
                ]
            ),
            "contexts_com_snowplowanalytics_mobile_application_1_0_0": json.dumps(
                [{"version": "0.9", "build": "s1"}]
            ),
        }
        for number, name, user in (
            (1, "application_install", "NULL"),
            (2, "application_foreground", "tester one"),
            (3, "screen_view", "buyer-2"),
            (4, "application_background", "buyer-2"),
            (5, "application_error", "buyer-2"),
        )
    )
)
SNOWPLOW = Case(
    "snowplow",
    "snowplow",
    SNOWPLOW_FRAME,
    [
        said(
            event,
            f"2021-06-0{number}T07:08:09.123Z",
            anonymousId="sess-user",
            messageId=f"sp-{number}",
            properties={"version": "0.9", "build": "s1"},
            context={
                "userAgent": "App/1",
                "device": {"manufacturer": "Apple Inc.", "model": "iPhone 8"},
                "location": {"city": "Lund"},
                "os": {"name": "ios", "version": "14.6"},
            },
            **ids,
        )
        for number, event, ids in (
            (1, INSTALLED, {}),
            (2, FOREGROUNDED, {}),
            (4, BACKGROUNDED, {"userId": "buyer-2"}),
            (5, CRASHED, {"userId": "buyer-2"}),
        )
    ],
)

CLICKSTREAM = Case(
    "aws_clickstream",
    "aws_clickstream",
    rows(
        *(
            {
                "event_type": name,
                "event_id": f"aws-{number}",
                "unique_id": "un-1",
                "device_id": "dv-1",
                "timestamp": 1_660_000_000_000 + number,
                "zone_offset": 7_200_000,
                "app_title": "Shop",
                "app_package_name": "io.shop",
                "app_version": version,
                "platform": platform,
                "os_version": "12",
                "make": "Google",
                "model": "Pixel 5",
                "carrier": "UNKNOWN",
                "locale": "zh_CN",
                "user": json.dumps({"_user_id": {"value": user}} if user else {}),
                "attributes": json.dumps(attributes),
            }
            for number, name, platform, version, user, attributes in (
                (1, "_first_open", "Android", "1.0", None, {}),
                (2, "_app_start", "Android", "UNKNOWN", "u1", {"_is_first_time": True}),
                (3, "_app_start", "Android", "1.0", "u1", {"_is_first_time": False}),
                (4, "_app_end", "Android", "1.0", "u1", {}),
                (5, "_app_update", "Android", "1.1", "u1", {"_previous_app_version": "1.0"}),
                (6, "_app_exception", "Android", "1.1", "u1", {}),
                (7, "_screen_view", "Android", "1.1", "u1", {}),
                (8, "_app_start", "Web", "1.1", "u1", {"_is_first_time": True}),
            )
        )
    ),
    [
        said(
            event,
            f"2022-08-08T23:06:40.00{number}Z",
            anonymousId="dv-1",
            messageId=f"aws-{number}",
            properties=properties,
            context={
                "locale": "zh_CN",
                "app": {"name": "Shop", "namespace": "io.shop"},
                "device": {"manufacturer": "Google", "model": "Pixel 5"},
                "os": {"name": "Android", "version": "12"},
            },
            **ids,
        )
        for number, event, ids, properties in (
            (1, INSTALLED, {}, {"version": "1.0"}),
            (2, OPENED, {"userId": "u1"}, {}),
            (3, FOREGROUNDED, {"userId": "u1"}, {"version": "1.0"}),
            (4, BACKGROUNDED, {"userId": "u1"}, {"version": "1.0"}),
            (5, UPDATED, {"userId": "u1"}, {"version": "1.1", "previous_version": "1.0"}),
            (6, CRASHED, {"userId": "u1"}, {"version": "1.1"}),
        )
    ],
)

CLICKSTREAM_V2 = Case(
    "aws_clickstream_v2",
    "aws_clickstream_v2",
    rows(
        *(
            {
                "event_id": f"v2-{number}",
                "event_name": name,
                "event_time_msec": str(1_710_000_000_000 + number),
                "event_timestamp": "NULL",
                "user_id": user,
                "user_pseudo_id": "ps-2",
                "platform": platform,
                "app_version": "3.3",
                "app_start_is_first_time": first,
                "upgrade_previous_app_version": previous,
                "device_advertising_id": GAID,
                "device_mobile_model_name": "SM-S901",
                "device_operating_system": "Android",
                "geo_country": "Kenya",
            }
            for number, name, platform, user, first, previous in (
                (1, "_first_open", "Android", "NULL", "NULL", "NULL"),
                (2, "_app_start", "Android", "NULL", "true", "NULL"),
                (3, "_app_start", "Android", "k-9", "false", "NULL"),
                (4, "_app_update", "Android", "k-9", "NULL", "3.2"),
                (5, "_app_start", "Web", "k-9", "true", "NULL"),
                (6, "_page_view", "Android", "k-9", "NULL", "NULL"),
            )
        )
    ),
    [
        said(
            event,
            f"2024-03-09T16:00:00.00{number}Z",
            anonymousId="ps-2",
            messageId=f"v2-{number}",
            properties={"version": "3.3"} | more,
            context={
                "device": {"advertisingId": GAID, "model": "SM-S901"},
                "location": {"country": "Kenya"},
                "os": {"name": "Android"},
            },
            **ids,
        )
        for number, event, ids, more in (
            (1, INSTALLED, {}, {}),
            (2, OPENED, {}, {}),
            (3, FOREGROUNDED, {"userId": "k-9"}, {}),
            (4, UPDATED, {"userId": "k-9"}, {"previous_version": "3.2"}),
        )
    ],
)

KSCRASH_SYSTEM = {
    "device_app_hash": "hash-4",
    "CFBundleShortVersionString": "1.4",
    "CFBundleVersion": "140",
    "CFBundleIdentifier": "org.map",
    "system_name": "iOS",
    "system_version": "12.4",
    "machine": "iPhone7,2",
}
CRASH_REPORTS = [
    Case(
        "kscrash",
        "crash_reports",
        rows(
            *(
                {
                    "report": {"id": f"ks-{number}", "timestamp": 1_600_000_000 + number},
                    "system": KSCRASH_SYSTEM,
                    "binary_images": [{"name": "/usr/lib/big"}],
                    "user": {"id": "walker"},
                    "crash": {"error": {"type": kind, "reason": "why", "signal": {"name": signal}}},
                }
                for number, kind, signal in (
                    (1, "mach", "SIGBUS"),
                    (2, "user", "SIGABRT"),
                    (3, "signal", "SIGTERM"),
                )
            )
        ),
        [
            said(
                CRASHED,
                "2020-09-13T12:26:41.000Z",
                userId="walker",
                anonymousId="hash-4",
                messageId="ks-1",
                properties={"version": "1.4", "build": "140", "kind": "mach", "reason": "why"},
                context={
                    "app": {"namespace": "org.map"},
                    "device": {"model": "iPhone7,2"},
                    "os": {"name": "iOS", "version": "12.4"},
                },
            )
        ],
    ),
    Case(
        "bugsnag",
        "crash_reports",
        rows(
            *(
                {
                    "exceptions": [{"errorClass": "NullPointer", "message": "gone"}],
                    "severityReason": {"type": "unhandledException"},
                    "unhandled": unhandled,
                    "user": {"id": user},
                    "device": {
                        "id": "bug-dev",
                        "time": "2019-05-05T05:05:05.500Z",
                        "osName": "android",
                        "osVersion": "9",
                        "manufacturer": "LG",
                        "model": "G7",
                    },
                    "app": {"id": "com.bug", "version": "0.1", "versionCode": 11},
                }
                for unhandled, user in ((True, "bug-dev"), (False, "bee"), (True, "bee"))
            )
        ),
        [
            said(
                CRASHED,
                "2019-05-05T05:05:05.500Z",
                anonymousId="bug-dev",
                properties={
                    "version": "0.1",
                    "build": "11",
                    "kind": "NullPointer",
                    "reason": "gone",
                },
                context={
                    "app": {"namespace": "com.bug"},
                    "device": {"manufacturer": "LG", "model": "G7"},
                    "os": {"name": "android", "version": "9"},
                },
                **ids,
            )
            for ids in ({}, {"userId": "bee"})
        ],
    ),
]

CASES = [
    CLICKSTREAM,
    CLICKSTREAM_V2,
    GA4,
    GA4_FLAT,
    SNOWPLOW,
    CRASHLYTICS,
    ADJUST,
    MIXPANEL,
    *APPSFLYER,
    *BRANCH,
    *AMPLITUDE,
    *MIXPANEL_EXPORT,
    *SEGMENT,
    *CRASH_REPORTS,
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.slug)
each_preset = pytest.mark.parametrize("name", presets.names())


def test_every_preset_has_a_case() -> None:
    """No preset is without a table here."""
    assert {case.preset for case in CASES} == set(presets.names())


@each_case
def test_is_detected(case: Case) -> None:
    """The columns alone tell whose export it is."""
    actual = presets.detect(list(case.frame.columns))
    assert actual is not None
    assert actual.name == case.preset


@each_case
def test_plan_proposes_it(case: Case) -> None:
    """A plan without a word about the mapping takes the preset, and says what it relies on."""
    plan = cdp.plan(case.frame)
    assert plan.proposal.preset == case.preset
    assert plan.questions == ()
    assert plan.counts == {
        "to_send": len(case.arrives),
        "invalid": 0,
        "held": 0,
        "skipped": len(case.frame) - len(case.arrives),
    }
    shown = " ".join(str(plan).split())
    assert presets.load(case.preset).facts[0] in shown


@each_case
def test_arrives_field_by_field(case: Case, box: Sandbox) -> None:
    """Events, ids, times, properties and context are right; what is no app event stays out."""
    report = case.frame.cdp.send(destination=box.destination, progress=False)
    assert report.ok
    assert arrived(box) == case.arrives
    assert report.counts["skipped"] == len(case.frame) - len(case.arrives)


@each_preset
def test_file_is_complete(name: str) -> None:
    """Every file parses, has a title and facts, can be detected, and says who, what and when."""
    preset = presets.load(name)
    assert tomllib.loads(preset.text)["mapping"]
    assert preset.title != name
    assert preset.facts
    assert all(fact.endswith(".") for fact in preset.facts)
    assert preset.detect or preset.detect_exact
    assert preset.mapping.complete
    assert preset.mapping.other_events == "skip"
    assert set(preset.mapping.events.values()) <= {str(event) for event in cdp.Event}


@pytest.mark.parametrize(("one", "other"), list(combinations(presets.names(), 2)))
def test_no_two_are_told_by_the_same_columns(one: str, other: str) -> None:
    """A table that has just what tells one preset does not tell another one as well."""
    for mine, theirs in ((one, other), (other, one)):
        preset = presets.load(mine)
        for columns in (*preset.detect, *preset.detect_exact):
            assert presets.load(theirs).matches(list(columns)) < preset.matches(list(columns))


@pytest.mark.parametrize(
    "columns",
    [
        ["user_id", "event", "timestamp"],
        ["user_id", "event_name", "event_time", "app_version", "os_version", "device_model"],
        ["id", "user_id", "event", "properties", "timestamp"],
        ["uid", "name", "time", "platform", "country", "device_id", "event_id"],
        ["event", "properties", "user_id"],
    ],
    ids=lambda columns: f"{len(columns)}_columns",
)
def test_ordinary_tables_are_none(columns: list[str]) -> None:
    """A table that somebody made up is not taken for the export of a vendor."""
    assert presets.detect(columns) is None


@each_case
def test_derived_names_are_free(case: Case) -> None:
    """No new column has the name of one that such an export has, spelled otherwise or not."""
    preset = presets.load(case.preset)
    there = {fold(str(column)) for column in case.frame.columns}
    assert not there & {fold(name) for name in preset.mapping.derive}


def test_unknown_name() -> None:
    """A name that is none gives one error, with the nearest and all names."""
    with pytest.raises(cdp.MappingError, match="There is no preset 'nosuch'") as caught:
        presets.load("nosuch")
    assert all(name in str(caught.value) for name in presets.names())
    with pytest.raises(cdp.MappingError, match="Did you mean 'amplitude'"):
        cdp.plan(AMPLITUDE[0].frame, preset="amplitud")


def test_copy_can_be_edited(tmp_path: Path, box: Sandbox) -> None:
    """A copy under another path is used in place of the one that is detected."""
    text = presets.load("amplitude").text
    edited = text.replace(
        '"[Amplitude] Application Backgrounded" = "Application Backgrounded"', ""
    ).replace('version = "found_version"', 'version = "start_version"')
    path = tmp_path / "ours.toml"
    path.write_text(edited, encoding="utf-8")
    frame = AMPLITUDE[0].frame
    plan = cdp.plan(frame, preset=str(path))
    assert plan.proposal.preset == "ours"
    report = frame.cdp.send(preset=str(path), destination=box.destination, progress=False)
    assert report.counts["delivered"] == 3
    assert [message["properties"]["version"] for message in arrived(box)] == ["1.0", "1.0", "1.0"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("title = ", "is not valid TOML"),
        ('title = "x"', r"has no \[mapping\]"),
        ('colour = "red"\n[mapping]', "unknown entry 'colour'"),
        ('[mapping]\nuser = "uid"', "no field 'user'"),
    ],
)
def test_copy_that_is_none(tmp_path: Path, text: str, why: str) -> None:
    """A file that is no preset says what is wrong with it."""
    path = tmp_path / "ours.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(cdp.MappingError, match=why):
        presets.load(path)


def test_copy_that_is_missing(tmp_path: Path) -> None:
    """A path without a file is one clear error."""
    with pytest.raises(cdp.MappingError, match="cannot be read"):
        presets.load(tmp_path / "ours.toml")


def test_keywords_win(box: Sandbox) -> None:
    """What is given as a keyword is used instead of the preset's; the rest stays."""
    frame = APPSFLYER[0].frame
    report = frame.cdp.send(
        preset="appsflyer",
        timezone="Europe/Paris",
        properties={"app": "app_version"},
        destination=box.destination,
        progress=False,
    )
    assert report.counts["delivered"] == 4
    first = arrived(box)[0]
    assert first["timestamp"] == "2023-08-14T07:30:15.000Z"
    assert first["properties"] == {"app": "4.2"}
    assert first["context"] == APPSFLYER_ARRIVES[0]["context"]


def test_keywords_win_over_the_detected_one() -> None:
    """The same if the plan recognises the preset."""
    plan = APPSFLYER[0].frame.cdp.plan(timezone="Europe/Paris")
    assert plan.proposal.preset == "appsflyer"
    assert plan.mapping.timezone == "Europe/Paris"
    assert plan.samples[0]["timestamp"] == "2023-08-14T07:30:15.000Z"


def test_a_mapping_and_a_preset_are_too_much() -> None:
    """Both at once would leave open which one counts."""
    with pytest.raises(cdp.MappingError, match="not both"):
        cdp.plan(GA4.frame, cdp.Mapping(user_id="user_id"), preset="ga4")


@each_preset
def test_only_what_tells_it(name: str) -> None:
    """Optional columns that are missing are left out, and the mapping still fits the table."""
    preset = presets.load(name)
    columns = {*(preset.detect + preset.detect_exact)[-1], str(preset.mapping.timestamp)}
    columns -= set(preset.mapping.derive)
    frame = pd.DataFrame({column: pd.Series([None], dtype="string") for column in columns})
    plan = cdp.plan(frame, preset=name)
    assert set(plan.mapping.columns()) <= columns | set(plan.mapping.derive)
    assert plan.counts["to_send"] == 0


def test_missing_columns_are_left_out(box: Sandbox) -> None:
    """Without the optional columns the message has what there is."""
    frame = APPSFLYER[1].frame[["AppsFlyer ID", "Event Name", "Event Time"]]
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box)[0] == said(INSTALLED, "2023-08-14T09:30:15.000Z", anonymousId="169-1")


def test_export_without_properties(box: Sandbox) -> None:
    """A file of Amplitude in which no event has properties is no trouble."""
    frame = AMPLITUDE[0].frame.iloc[[4]].reset_index(drop=True)
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box) == [AMPLITUDE_ARRIVES[3]]


def test_preset_of_a_file(tmp_path: Path, box: Sandbox) -> None:
    """Lines of JSON in a file are recognised and read as the same rows in a frame."""
    path = tmp_path / "export.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in MIXPANEL_LINES), encoding="utf-8")
    report = cdp.send(path, destination=box.destination, progress=False)
    assert report.ok
    assert arrived(box) == MIXPANEL_ARRIVES


def test_advertising_id_of_zeros(box: Sandbox) -> None:
    """Zeros, which stand for a person who does not want to be followed, are no id."""
    frame = AMPLITUDE[0].frame.iloc[[0]].assign(idfa="00000000-0000-0000-0000-000000000000")
    frame.cdp.send(destination=box.destination, progress=False)
    assert "advertisingId" not in arrived(box)[0]["context"]["device"]


@pytest.mark.parametrize("cell", ["", None, "{}"])
def test_empty_properties_as_text(cell: str | None, box: Sandbox) -> None:
    """An empty cell where a warehouse has JSON is an event without properties."""
    frame = AMPLITUDE[1].frame.iloc[[4]].assign(EVENT_PROPERTIES=cell)
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box) == [AMPLITUDE_ARRIVES[3]]


def test_device_type_that_the_api_does_not_know(box: Sandbox) -> None:
    """A type of device that the API would refuse is left out, and the row is sent."""
    frame = SEGMENT[0].frame.iloc[[0]].assign(context_device_type="tvos")
    frame.cdp.send(destination=box.destination, progress=False)
    assert "type" not in arrived(box)[0]["context"]["device"]


def test_adjust_time_as_text(box: Sandbox) -> None:
    """Adjust's times are read as seconds and as the text that its help shows."""
    frame = ADJUST.frame.iloc[[0]].assign(**{"{created_at}": "2016-04-04T23:16UTC"})
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box)[0]["timestamp"] == "2016-04-04T23:16:00.000Z"


def test_mixpanel_names_without_dollar_signs(box: Sandbox) -> None:
    """A connector that takes the dollar signs away, and calls the column event, is read too."""
    frame = MIXPANEL.frame.assign(name=MIXPANEL.frame["name"].str.lstrip("$"))
    frame = frame.rename(columns={"name": "event"})
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box) == MIXPANEL.arrives


def test_preset_is_saved_as_a_mapping() -> None:
    """What a preset proposes is a plain mapping, which can be kept and read back."""
    for case in CASES:
        mapping = presets.load(case.preset).fit(list(case.frame.columns))
        assert cdp.Mapping.from_toml(mapping.to_toml()) == mapping
        assert replace(mapping) == mapping
