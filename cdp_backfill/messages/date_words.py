"""Words in dates and times: months, weekdays, halves of the day and time zones."""

from __future__ import annotations

from typing import Final

# English; German and Austrian; French; Spanish; Portuguese; Italian; Dutch; the Nordic languages;
# Russian; Turkish; Indonesian. Words that mean two months are left out, such as lis: it is October
# in Croatian and November in Polish.
_MONTHS: Final = """
jan january januar jänner jän jaenner janv janvier ene enero janeiro gen gennaio januari янв января
    ocak oca;
feb february februar feber févr fév fevr février fevrier febrero fev fevereiro febbraio februari
    фев февр февраля şub şubat;
mar march mär märz mrz maerz mars marzo março marco mrt maart maret мар марта;
apr april avr avril abr abril aprile апр апреля nis nisan;
may mai mayo mag maggio maio mei maj mayıs мая;
jun june juni juin junio junho giu giugno июн июня haz haziran;
jul july juli juil juillet julio julho lug luglio июл июля tem temmuz;
aug august août aout ago agosto augustus augusti agt agustus авг августа ağu ağustos;
sep sept september septembre septiembre set setembro settembre сен сент сентября eyl eylül;
oct october okt oktober octobre octubre out outubro ott ottobre окт октября eki ekim;
nov november novembre noviembre novembro ноя нояб ноября kas kasım;
dec december dez dezember déc décembre decembre dic diciembre dezembro dicembre des desember дек
    декабря ara aralık
"""  # noqa: RUF001  # these letters are meant

_WEEKDAYS: Final = """
mon tue tues wed thu thur thurs fri sat sun
monday tuesday wednesday thursday friday saturday sunday
mo di mi do fr sa so montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag
lun mer jeu ven sam dim lundi mardi mercredi jeudi vendredi samedi dimanche
mié jue vie sáb dom lunes martes miércoles jueves viernes sábado domingo
gio sab lunedì martedì mercoledì giovedì venerdì sabato domenica
seg ter qua qui sex ma wo vr za zo
maandag dinsdag woensdag donderdag vrijdag zaterdag zondag
"""

_FILLERS: Final = "at um uhr klo kl den de del do à le om г th st nd rd er º"  # noqa: RUF001

_HALVES: Final = {
    0: "am 上午 午前 오전",
    1: "pm 下午 午後 오후",
}

_OFFSETS: Final = {
    # Names that mean one offset only, wherever they are used; PST, CST, IST and BST do not.
    0: "z utc gmt ut wet",
    60: "cet west met mez",
    120: "cest eet mest mesz sast",
    180: "eest",
    480: "awst hkt",
    540: "jst kst",
    570: "acst",
    600: "aest",
    630: "acdt",
    660: "aedt",
    720: "nzst",
    780: "nzdt",
    -240: "edt",
    -300: "est",
    -360: "mdt",
    -420: "mst pdt",
    -480: "akdt",
    -540: "akst",
    -600: "hst",
}

_UNITS: Final = {
    "y": "年 년",
    "m": "月 월",
    "d": "日 일",
    "h": "h 時 时 시",
    "n": "min 分 분",
    "s": "s 秒 초",
}

UNKNOWN: Final = "?"
"""The role of a word that has no part in a date or a time."""


def _roles() -> dict[str, tuple[str, int]]:
    words: dict[str, tuple[str, int]] = {}
    for letter, names in _UNITS.items():
        words |= dict.fromkeys(names.split(), (letter, 0))
    words |= dict.fromkeys(_FILLERS.split(), ("f", 0))
    words |= dict.fromkeys(_WEEKDAYS.split(), ("W", 0))
    for number, names in _HALVES.items():
        words |= dict.fromkeys(names.split(), ("P", number))
    for minutes, names in _OFFSETS.items():
        words |= dict.fromkeys(names.split(), ("Z", minutes))
    for number, names in enumerate(_MONTHS.split(";"), 1):
        words |= dict.fromkeys(names.split(), ("M", number))
    return words | {"t": ("T", 0), "w": ("w", 0)}


ROLES: Final = _roles()
"""For each word, its role in a date or a time, and its value.

The roles are ``M`` for a month, ``W`` for a weekday, ``P`` for a half of the day, ``Z`` for a time
zone (its value is in minutes), ``T`` for the letter between date and time, ``w`` for the letter
before a week, ``f`` for a word without a meaning of its own, and ``y m d h n s`` for the
names of units.
"""


def role_of(word: str) -> tuple[str, int]:
    """The role and the value of a word.

    >>> role_of("Sept"), role_of("PM"), role_of("soon")
    (('M', 9), ('P', 1), ('?', 0))
    """
    return ROLES.get(word.casefold(), (UNKNOWN, 0))
