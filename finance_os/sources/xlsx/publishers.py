"""Publishers as spreadsheets name them: by an ID, or by a name."""

import hashlib
import re
import unicodedata
from decimal import Decimal, InvalidOperation

from finance_os.sources.xlsx.cells import Cell
from finance_os.sources.xlsx.problems import Unreadable

LONGEST = 200

_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9._/:-]{0,99}", re.ASCII)
_PADDED = re.compile(r"0{2,}")


def read_publisher(cell: Cell | None, format_code: str, shows_date: bool) -> str | None:
    """A publisher's ID or name as given, without blanks around it; `None` where there is none.

    A whole number is read as it is shown: 12 in the format 00000 is `00012`. Raises `Unreadable`.
    """
    if cell is None:
        return None
    if cell.text is None:
        raise Unreadable("formula_without_value", "has a formula whose value was not saved: save it again in Excel")
    if cell.kind == "e":
        raise Unreadable("error_value", "has an error for a value: correct the formula")
    if cell.kind == "s":
        text = " ".join(cell.text.split())
        if len(text) > LONGEST or not text.isprintable():
            raise Unreadable("bad_publisher", f"is no publisher: it has more than {LONGEST} characters, or odd ones")
        return text or None
    if cell.kind != "n" or shows_date:
        raise Unreadable("bad_publisher", "is a date or a truth value, not a publisher: format the column as text")
    try:
        number = Decimal(cell.text)
    except InvalidOperation:
        number = Decimal("0.5")
    if number != number.to_integral_value() or not 0 <= number < 10**15:
        raise Unreadable("bad_publisher", "is a number that no publisher has for an ID: format the column as text")
    return str(int(number)).zfill(len(format_code) if _PADDED.fullmatch(format_code) else 1)


def publisher_key(publisher_id: str | None, publisher: str | None) -> str:
    """What a publisher is known by, whoever typed it: the ID in small letters, else a hash of the name.

    A name may be a person's, and keys are shown in findings and logs. Without its ID, a publisher whose name was
    changed is another one.
    """
    given = publisher_id or publisher or ""
    plain = " ".join(unicodedata.normalize("NFKC", given).casefold().split())
    looks_like_one = publisher_id is not None or any(character.isdigit() for character in plain)
    if looks_like_one and _IDENTIFIER.fullmatch(plain):
        return plain
    return f"name-{hashlib.sha256(plain.encode()).hexdigest()[:16]}"
