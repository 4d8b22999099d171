"""What columns and events are called in other people's tables.

Names are compared without regard to case, spaces and punctuation. The numbers say how surely a
column of that name is the field, before its cells were looked at: 1.0 for a name that says so
outright, 0.5 for one that often is something else. Names and spellings are those that the vendors'
documentation and sample files use (Firebase and Crashlytics in BigQuery, AppsFlyer, Adjust, Branch,
Amplitude, Mixpanel, Segment, Snowplow, AWS Clickstream, Braze, AppMetrica, KSCrash, Bugsnag), and
what people make up themselves.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cdp_backfill.model.api_facts import Event

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS: Final[dict[str, dict[str, float]]] = {
    "user_id": {
        "customeruserid": 1.0,
        "externaluserid": 1.0,
        "userexternalid": 1.0,
        "userid": 0.94,
        "customerid": 0.94,
        "externalid": 0.94,
        "appuserid": 0.94,
        "cuid": 0.9,
        "uid": 0.92,
        "userkey": 0.9,
        "useruuid": 0.92,
        "userguid": 0.92,
        "userobjectid": 0.9,
        "customeruuid": 0.92,
        "customerkey": 0.9,
        "customernumber": 0.85,
        "memberid": 0.92,
        "identity": 0.75,
        "accountid": 0.85,
        "profileid": 0.85,
        "contactid": 0.85,
        "loginid": 0.8,
        "customer": 0.8,
        "user": 0.75,
        "developeridentity": 0.9,
        "distinctid": 0.7,
        "email": 0.6,
        "emailaddress": 0.6,
        "useremail": 0.6,
        "customeremail": 0.6,
        "username": 0.58,
        "login": 0.55,
    },
    "anonymous_id": {
        "anonymousid": 1.0,
        "anonid": 1.0,
        "userpseudoid": 1.0,
        "pseudoid": 0.95,
        "appinstanceid": 0.95,
        "installationid": 0.9,
        "installationuuid": 0.9,
        "installid": 0.9,
        "appsflyerid": 0.95,
        "appmetricadeviceid": 0.95,
        "visitorid": 0.97,
        "installuuid": 0.9,
        "clientsessionuserid": 0.9,
        "sessionuserid": 0.9,
        "deviceid": 0.85,
        "deviceuuid": 0.85,
        "deviceguid": 0.85,
        "deviceidentifier": 0.85,
        "adid": 0.8,
        "deviceapphash": 0.8,
        "instanceid": 0.75,
        "handsetid": 0.85,
        "handsetuuid": 0.93,
        "tabletid": 0.8,
        "appinstanceuuid": 0.95,
        "clientid": 0.7,
        "idfv": 0.6,
        "identifierforvendor": 0.6,
        "vendorid": 0.6,
        "androidid": 0.6,
    },
    "event": {
        "event": 1.0,
        "eventname": 1.0,
        "eventtype": 0.9,
        "eventlabel": 0.7,
        "eventkey": 0.8,
        "eventtext": 0.8,
        "eventcode": 0.6,
        "activitykind": 0.95,
        "activity": 0.6,
        "action": 0.7,
        "actionname": 0.75,
        "trackedevent": 0.9,
        "type": 0.5,
        "name": 0.5,
        "kind": 0.5,
        "errortype": 0.5,
    },
    "timestamp": {
        "timestamp": 1.0,
        "eventtimestamp": 1.0,
        "eventtime": 1.0,
        "eventdatetime": 1.0,
        "eventat": 1.0,
        "eventts": 1.0,
        "eventepoch": 1.0,
        "tstamp": 0.9,
        "activitytimestamp": 0.95,
        "activitytime": 0.95,
        "actiontime": 0.95,
        "occurredat": 1.0,
        "occurred": 0.9,
        "occurredon": 0.95,
        "happenedat": 1.0,
        "time": 0.9,
        "ts": 0.9,
        "datetime": 0.85,
        "derivedtstamp": 1.0,
        "clienteventtime": 0.9,
        "clienttimestamp": 0.85,
        "clienttime": 0.85,
        "devicetime": 0.8,
        "localtime": 0.7,
        "loggedat": 0.85,
        "recordedat": 0.85,
        "trackedat": 0.9,
        "firedat": 0.9,
        "crashedat": 0.9,
        "crashtime": 0.9,
        "installdatetime": 0.6,
        "installtime": 0.6,
        "installedat": 0.6,
        "openedat": 0.85,
        "launchedat": 0.85,
        "uninstalledat": 0.85,
        "uninstalltime": 0.8,
        "eventdate": 0.8,
        "senttime": 0.4,
        "createdat": 0.7,
        "created": 0.6,
        "date": 0.55,
        "originaltimestamp": 0.6,
        "servertime": 0.5,
    },
    "message_id": {
        "messageid": 1.0,
        "eventid": 0.95,
        "eventuuid": 1.0,
        "eventguid": 1.0,
        "insertid": 1.0,
        "uuid": 0.8,
        "guid": 0.75,
        "reportid": 0.85,
        "crashid": 0.85,
        "id": 0.6,
    },
    "properties.version": {
        "appversion": 1.0,
        "appversionname": 1.0,
        "appversionstring": 0.97,
        "applicationversion": 1.0,
        "appver": 0.9,
        "versionname": 0.95,
        "version": 0.9,
        "appinfoversion": 0.95,
        "cfbundleshortversionstring": 1.0,
        "bundleshortversion": 0.95,
        "displayversion": 0.85,
        "applicationdisplayversion": 0.95,
        "clientversion": 0.8,
        "apprelease": 0.6,
        "newversion": 0.8,
        "newappversion": 0.85,
        "currentversion": 0.75,
        "toversion": 0.8,
        "lastappversion": 0.6,
        "releaseversion": 0.75,
    },
    "properties.build": {
        "build": 0.9,
        "buildnumber": 1.0,
        "buildno": 0.95,
        "appbuild": 1.0,
        "appbuildnumber": 1.0,
        "appbuildversion": 0.95,
        "applicationbuild": 0.95,
        "applicationbuildversion": 0.95,
        "versioncode": 0.98,
        "appversioncode": 0.98,
        "bundleversion": 0.9,
        "cfbundleversion": 0.98,
        "buildversion": 0.9,
        "newbuild": 0.8,
        "tobuild": 0.8,
    },
    "properties.previous_version": {
        "previousversion": 1.0,
        "previousappversion": 1.0,
        "prevversion": 0.95,
        "prevappversion": 0.95,
        "oldversion": 0.9,
        "oldappversion": 0.9,
        "fromversion": 0.85,
    },
    "properties.previous_build": {
        "previousbuild": 1.0,
        "previousappbuild": 1.0,
        "prevbuild": 0.95,
        "previousbuildnumber": 1.0,
        "oldbuild": 0.9,
        "frombuild": 0.85,
        "previousversioncode": 0.95,
    },
    "properties.from_background": {
        "frombackground": 1.0,
        "isfrombackground": 1.0,
        "openedfrombackground": 0.95,
    },
    "properties.url": {
        "url": 0.9,
        "deeplink": 0.85,
        "deeplinkurl": 0.95,
        "openurl": 0.95,
        "launchurl": 0.95,
    },
    "properties.referring_application": {
        "referringapplication": 1.0,
        "referringapp": 0.95,
        "referrerapp": 0.9,
        "sourceapplication": 0.9,
    },
    "context.device.model": {
        "devicemodel": 1.0,
        "devicemodelname": 0.95,
        "phonemodel": 0.95,
        "mobilemodelname": 0.95,
        "devicemobilemodelname": 0.95,
        "model": 0.9,
        "modelname": 0.85,
        "handset": 0.7,
        "phone": 0.6,
        "device": 0.6,
    },
    "context.device.manufacturer": {
        "devicemanufacturer": 1.0,
        "manufacturer": 0.95,
        "make": 0.8,
        "devicemake": 0.85,
        "devicebrand": 0.8,
        "mobilebrandname": 0.8,
        "brand": 0.7,
    },
    "context.device.id": {"deviceid": 0.9, "deviceuuid": 0.85, "deviceidentifier": 0.85},
    "context.device.advertisingId": {
        "advertisingid": 1.0,
        "deviceadvertisingid": 1.0,
        "adid": 0.6,
        "idfa": 0.9,
        "gaid": 0.9,
        "aaid": 0.9,
        "gpsadid": 0.9,
        "googleadid": 0.9,
        "googleadvertisingid": 0.95,
        "googleaid": 0.9,
        "iosifa": 0.9,
    },
    "context.device.token": {
        "pushtoken": 1.0,
        "devicetoken": 1.0,
        "fcmtoken": 0.95,
        "apnstoken": 0.95,
        "devicepushtoken": 1.0,
    },
    "context.os.name": {
        "osname": 1.0,
        "operatingsystem": 0.95,
        "deviceoperatingsystem": 0.95,
        "deviceos": 0.92,
        "platform": 0.9,
        "os": 0.9,
        "deviceplatform": 0.9,
        "appplatform": 0.85,
        "osfamily": 0.8,
        "ostype": 0.85,
        "systemname": 0.85,
        "devicetype": 0.6,
        "lastplatform": 0.6,
    },
    "context.os.version": {
        "osversion": 1.0,
        "operatingsystemversion": 1.0,
        "deviceoperatingsystemversion": 1.0,
        "deviceosversion": 1.0,
        "osver": 0.95,
        "systemversion": 0.9,
        "platformversion": 0.85,
        "osreleaseversion": 0.9,
        "operatingsystemdisplayversion": 0.95,
        "androidversion": 0.75,
        "iosversion": 0.75,
    },
    "context.app.name": {"appname": 1.0, "applicationname": 1.0, "apptitle": 0.85},
    "context.app.namespace": {
        "bundleid": 1.0,
        "bundleidentifier": 1.0,
        "appbundleid": 1.0,
        "cfbundleidentifier": 1.0,
        "packagename": 0.95,
        "apppackagename": 1.0,
        "apppackage": 0.95,
        "package": 0.7,
        "appnamespace": 0.95,
        "applicationpackage": 0.95,
        "applicationid": 0.7,
        "appidentifier": 0.95,
        "appinfoid": 0.8,
        "appid": 0.6,
    },
    "context.locale": {
        "locale": 1.0,
        "devicelocale": 1.0,
        "localeidentifier": 1.0,
        "devicelanguage": 0.8,
        "systemlanguage": 0.75,
        "language": 0.75,
        "lang": 0.75,
    },
    "context.timezone": {
        "timezone": 1.0,
        "tz": 0.9,
        "devicetimezone": 1.0,
        "timezonename": 0.95,
        "devicetz": 0.9,
    },
    "context.ip": {
        "ip": 1.0,
        "ipaddress": 1.0,
        "ipaddr": 0.95,
        "clientip": 0.95,
        "userip": 0.95,
        "useripaddress": 0.95,
        "remoteip": 0.9,
    },
    "context.network.carrier": {
        "carrier": 1.0,
        "networkcarrier": 1.0,
        "devicecarrier": 0.95,
        "mobilecarrier": 0.95,
        "carriername": 0.95,
        "operatorname": 0.85,
        "mobileoperator": 0.85,
    },
    "context.location.city": {"city": 1.0, "geocity": 0.95, "locationcity": 1.0, "cityname": 0.9},
    "context.location.country": {
        "country": 1.0,
        "countryname": 0.95,
        "geocountry": 0.95,
        "locationcountry": 1.0,
        "countrycode": 0.9,
        "geocountrycode": 0.85,
        "countryisocode": 0.85,
        "deviceregion": 0.5,
    },
    "context.location.region": {
        "region": 0.95,
        "georegion": 0.9,
        "locationregion": 1.0,
        "regionname": 0.85,
        "state": 0.6,
    },
    "context.userAgent": {"useragent": 1.0, "ua": 0.7, "deviceuseragent": 0.95},
}

PREFIXES: Final = (
    "amplitude",
    "context",
    "client",
    "phone",
    "mobile",
    "handset",
    "tablet",
    "raw",
    "ctx",
    "prop",
    "evt",
    "payload",
    "userdata",
    "mobilecontext",
    "lifecycle",
    "message",
    "record",
    "data",
    "network",
    "properties",
    "property",
    "eventproperties",
    "eventparams",
    "eventparam",
    "params",
    "param",
    "prop",
    "traits",
    "event",
    "mp",
    "ae",
    "app",
    "fb",
)
"""What vendors and warehouses put before the name of a column."""

SUFFIXES: Final = (
    "milliseconds",
    "microseconds",
    "timestamp",
    "seconds",
    "millis",
    "micros",
    "msec",
    "utc",
    "gmt",
    "iso",
    "ms",
    "us",
    "ns",
    "str",
    "string",
    "sec",
    "epoch",
    "unix",
    "ts",
    "s",
)
"""What stands behind it, mostly behind times: a unit, a zone or a form."""

LOCAL: Final = ("local", "localtime", "device")
"""What stands behind a time that is told by a clock of unknown zone."""

_SPELLINGS: Final[dict[Event, str]] = {
    Event.INSTALLED: """
        application installed, app installed, app install, application install, install,
        installed, installation, first open, app first open, first app open, first launch,
        app first launch, first session, installed app, installed the app, new install,
        reinstall, reinstalled, $ae_first_open,
        ae first open, organic install, non organic install, install event
    """,
    Event.OPENED: """
        opened the app, application opened, app opened, app open, application open, app
        launch, app launched,
        application launched, application launch, launch, launched, launch app, open app,
        opened app, app start, app started, application started, application start, open,
        opened, af_app_opened, app opens, cold start, app cold start
    """,
    Event.BACKGROUNDED: """
        application backgrounded, app backgrounded, app background, application background,
        backgrounded, background, entered background, enter background, did enter background,
        app entered background, app enter background, application did enter background,
        app did enter background, app to background, app moved to background, app went background,
        app in background, app sent to background
    """,
    Event.FOREGROUNDED: """
        application foregrounded, app foregrounded, app foreground, application foreground,
        foregrounded, foreground, entered foreground, enter foreground, will enter foreground,
        app entered foreground, app enter foreground, application will enter foreground,
        app will enter foreground, app to foreground, app came to foreground, app resumed,
        app resume
    """,
    Event.UPDATED: """
        application updated, app updated, app update, application update, app upgrade,
        app upgraded, application upgraded, application upgrade, version updated, $ae_updated,
        ae updated, app version updated, updated app
    """,
    Event.UNINSTALLED: """
        application uninstalled, app uninstalled, app uninstall, application uninstall, uninstall,
        uninstalled, uninstalled app, app remove, app removed, app deleted, application
        removed, app delete,
        uninstall event
    """,
    Event.CRASHED: """
        application crashed, app crashed, app crash, application crash, crash, crashed,
        $ae_crashed, ae crashed, app crash detected, fatal crash, crash report
    """,
}


def folded(name: str) -> str:
    """A name without case, spaces and punctuation.

    >>> folded("[Amplitude] Application Opened")
    'amplitudeapplicationopened'
    """
    return "".join(re.findall(r"[^\W_]+", name)).casefold()


EVENTS: Final[dict[str, Event]] = {
    folded(spelling): event
    for event, spellings in _SPELLINGS.items()
    for spelling in spellings.split(",")
}
"""Spellings of the seven events, folded."""

FIREBASE_EVENTS: Final = frozenset(
    map(
        folded,
        (
            "first_open",
            "user_engagement",
            "screen_view",
            "app_remove",
            "app_update",
            "os_update",
            "app_exception",
            "app_clear_data",
            "notification_open",
        ),
    )
)
"""Names that Firebase gives by itself; beside two of them, session_start is an opening."""


PEOPLE: Final = [
    "user",
    "customer",
    "member",
    "person",
    "player",
    "subscriber",
    "account",
    "profile",
    "contact",
    "shopper",
    "passenger",
    "listener",
    "guest",
    "rider",
    "driver",
    "patient",
    "student",
    "viewer",
    "reader",
    "buyer",
    "employee",
    "learner",
    "traveler",
    "traveller",
    "client",
    "consumer",
    "patron",
    "donor",
    "tenant",
    "resident",
    "citizen",
    "fan",
    "applicant",
    "courier",
    "panelist",
    "technician",
    "worker",
]
"""What companies call the people they serve; with ``id`` behind it, it is an id of theirs."""

SHORT: Final[dict[str, str]] = {
    "acct": "account",
    "appl": "application",
    "bld": "build",
    "cust": "customer",
    "dev": "device",
    "dvc": "device",
    "evt": "event",
    "ev": "event",
    "mdl": "model",
    "mfr": "manufacturer",
    "mfg": "manufacturer",
    "msg": "message",
    "nm": "name",
    "no": "number",
    "num": "number",
    "plat": "platform",
    "prev": "previous",
    "tm": "time",
    "tms": "timestamp",
    "dt": "date",
    "dttm": "datetime",
    "typ": "type",
    "usr": "user",
    "ver": "version",
    "vsn": "version",
    "ctry": "country",
    "cntry": "country",
    "cd": "code",
    "tz": "timezone",
}
"""Words that warehouses cut short."""


def words(name: str) -> list[str]:
    """The words of a name, in lower case.

    >>> words("[Amplitude] osVersion_NM")
    ['amplitude', 'os', 'version', 'nm']
    """
    return [word.casefold() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def event_of(value: str) -> Event | None:
    """The event that a spelling stands for, or None.

    >>> event_of("App_Open")
    <Event.OPENED: 'Application Opened'>
    >>> event_of("purchase") is None
    True
    """
    key, last = folded(value), folded(re.split(r"[./:]", value)[-1])
    found = EVENTS.get(key)
    if found is None and len(last) >= _TELLING:  # of a path; "open" alone could be anything
        found = EVENTS.get(last)
    return found or EVENTS.get(key.removeprefix("amplitude"))


def events_of(values: list[str], column: str) -> dict[str, Event]:
    """Values of an event column that are events for certain.

    Args:
        values: All different values of the column.
        column: Its name.
    """
    found = {value: event for value in values if (event := event_of(value)) is not None}
    adjust = folded(column) == "activitykind"
    bare = len(set(found.values())) == 1 and all(len(words(value)) == 1 for value in found)
    if bare and not adjust:
        found = {}  # one bare word: a crash of a car, the opening of a shop
    keys = {folded(value) for value in values}
    for value in values:
        key = folded(value)
        if (value.casefold() == "session_start" and len(keys & FIREBASE_EVENTS) > 1) or (
            adjust and key == "session"
        ):
            found[value] = Event.OPENED
        elif folded(column) == "errortype" and key == "fatal":
            found[value] = Event.CRASHED
    return found


def likeness(name: str, field: str, prefixes: tuple[str, ...] = ()) -> float:
    """How surely a column of this name is the field, from 0 to 1.

    Args:
        name: Name of the column.
        field: Field of a mapping.
        prefixes: What many columns of the same table begin with, folded.

    >>> likeness("USER_ID", "user_id"), likeness("colour", "user_id")
    (0.94, 0.0)
    """
    known = COLUMNS[field]
    spelled = words(name)
    best, keys = 0.0, [(folded(name), 1.0)]
    if any(word in SHORT for word in spelled):
        keys.append(("".join(SHORT.get(word, word) for word in spelled), 0.97))
    if field == "user_id" and spelled[-1:] and spelled[-1] in _IDENTIFIES:
        said = [word for word in spelled[:-1] if word not in ("raw", "ctx", "prop", "evt")]
        best = 0.85 if "".join(said) in PEOPLE else 0.0
    for key, worth in keys:  # which grows by what is left of each name
        best = max(best, known.get(key, 0.0) * worth)
        if worth > _LEAST:
            known_prefixes = (*PREFIXES, *prefixes)
            keys += [
                (rest, worth * 0.97) for rest in _without(key, known_prefixes, str.removeprefix)
            ]
            if field == "timestamp":
                keys += [(rest, worth * 0.99) for rest in _without(key, SUFFIXES, str.removesuffix)]
                keys += [(rest, worth * 0.9) for rest in _without(key, LOCAL, str.removesuffix)]
    return best


def _without(key: str, parts: tuple[str, ...], remove: Callable[[str, str], str]) -> list[str]:
    rests = (remove(key, part) for part in parts)
    return [rest for rest in rests if rest != key and len(rest) > 1]


_LEAST: Final = 0.9
_IDENTIFIES: Final = ("id", "uuid", "guid", "no", "nr", "nbr", "number", "key", "hash")
_TELLING: Final = len("uninstall")
