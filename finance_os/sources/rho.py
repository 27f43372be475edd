"""Rho: cash transactions, from the CSV files that an operator exports and drops.

No public document gives the header of these files (the help centre names the columns of a page, and says that an
export's columns are chosen: https://help.rho.co/hc/en-us/articles/7553101698075-Understanding-Transaction-Tables).
So the names in `Columns` are assumed. FINANCE_OS_RHO_COLUMNS replaces them, field by field:

    {"amount": "Net Amount", "posted_on": ["Settled", "Closed On"], "date_format": "%m/%d/%Y"}

A file is read as a whole or refused as a whole: whatever could be meant in two ways is refused with the row and the
column. Files must hold whole days; what two exports both hold is then the same records under the same source IDs,
whatever the order of rows or of files. A row without a transaction ID is named by its day, so one that is exported
while it is pending and again on another day, posted, is two: export the transaction ID, or posted rows only.
"""

import csv
import hashlib
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from finance_os.evidence.canonical import canonical_json
from finance_os.evidence.extraction import Extraction, Item, Page, Record, RemoteCount, Request, SourceError
from finance_os.evidence.money import NotMoney, currency_code, exponent, minor_units
from finance_os.evidence.windows import day_of
from finance_os.settings import settings
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import MAX_PROBLEMS, Accepted, Judged, Problem, Quarantined, Target, read_kept
from finance_os.sources.guard import Take
from finance_os.sources.source import Cadence, Column, Reads, Source, SourceObject

COLUMNS_SETTING = "FINANCE_OS_RHO_COLUMNS"
PAGE_ROWS = 1_000
LONGEST_ID = 200

_DELIMITERS = (",", ";", "\t")
_IDENTIFIER = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:/#-]{{0,{LONGEST_ID - 1}}}")
_AMOUNT = re.compile(
    r"(?P<open>\()?(?P<before>[+-])?(?P<dollar>\$)?(?P<after>[+-])?"
    r"(?P<whole>[0-9]{1,15}|[0-9]{1,3}(?:,[0-9]{3}){1,4})(?P<fraction>\.[0-9]{1,8})?(?P<trailing>-)?(?P<close>\))?"
)
_DOLLARS = frozenset({"USD", "CAD", "AUD", "NZD", "SGD", "HKD", "MXN"})
_ISO_TIME = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})[T ](?P<time>\d{2}:\d{2}(:\d{2}([.]\d{1,6})?)?)\s?(?P<offset>Z|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_SLASHED = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})", re.ASCII)
_UNAMBIGUOUS_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y")
_DIRECTIONS = {"debit": -1, "dr": -1, "out": -1, "outflow": -1, "credit": 1, "cr": 1, "in": 1, "inflow": 1}
# The single letters are Rho's own: https://help.rho.co/en/articles/4501587-transaction-details
_STATUSES = {
    **dict.fromkeys(("s", "settled", "posted", "completed", "complete", "cleared"), "posted"),
    **dict.fromkeys(("p", "pending", "q", "queued", "a", "awaiting approval", "processing"), "pending"),
    **dict.fromkeys(("c", "cancelled", "canceled", "voided", "declined"), "cancelled"),
}


Headers = str | tuple[str, ...]


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which headers a field is read from, the first that a file has; an empty list turns a field off.

    The defaults are ASSUMED: see the module. Headers are compared without case, blanks, `_` and `-`. `date_format`
    is a `strptime` format for every date that is not ISO 8601 with a time; without it only dates that have one
    meaning are read. `default_currency` is that of files without a currency column.
    """

    transaction_id: Headers = ("Transaction ID", "ID")
    transacted_on: Headers = ("Date", "Transaction Date", "Created", "Created Date", "Created At")
    posted_on: Headers = (
        "Settlement Date", "Settled Date", "Posted Date", "Posting Date", "Date Posted", "Closed On", "Posted",
    )  # fmt: skip
    amount: Headers = ("Amount", "Transaction Amount", "Net Amount")
    debit: Headers = ("Debit", "Debit Amount", "Money Out", "Withdrawal", "Withdrawals")
    credit: Headers = ("Credit", "Credit Amount", "Money In", "Deposit", "Deposits")
    direction: Headers = ("Direction", "Debit/Credit", "Credit/Debit", "DR/CR", "CR/DR")
    currency: Headers = ("Currency", "Currency Code")
    status: Headers = ("Status", "Transaction Status")
    description: Headers = ("Description", "Memo", "Details", "Note")
    counterparty: Headers = ("Counterparty", "Counterparty Name", "Merchant", "Payee", "Name")
    type: Headers = ("Type", "Transaction Type", "Payment Type")
    reference: Headers = ("Reference", "Reference ID", "Reference Number", "Ref")
    account: Headers = ("Account", "Account Name", "Account Number")
    date_format: str | None = None
    default_currency: str = "USD"

    @classmethod
    def read(cls, text: str | None) -> "Columns":
        """The column map in the setting; `SourceError` (`setting_invalid`) if it is not one."""
        try:
            columns = msgspec.json.decode(text, type=cls) if text else cls()
            currency_code(columns.default_currency)
            if columns.date_format and not _is_date_format(columns.date_format):
                raise ValueError("date_format does not have the year, the month and the day")
        except (msgspec.MsgspecError, ValueError) as error:
            message = f"{COLUMNS_SETTING} is not a column map: {error}"
            raise SourceError("setting_invalid", message, permanent=True) from None
        return columns

    def headers(self, name: str) -> tuple[str, ...]:
        """The headers that field `name` is read from, the best first."""
        headers = getattr(self, name)
        return (headers,) if isinstance(headers, str) else headers


_FIELDS = tuple(name for name in Columns.__struct_fields__ if name not in ("date_format", "default_currency"))
_TEXTS = ("description", "counterparty", "type", "reference", "account")


@dataclass(frozen=True, slots=True)
class Key:
    """What names one transaction of a file: the line it begins on, its day, and what its source ID is made of.

    `basis` is the source ID of a row without a transaction ID that is alone of its kind on its day; `digest` is the
    SHA-256 of the row as it was read.
    """

    line: int
    day: date
    transaction_id: str | None
    basis: str
    digest: bytes


@dataclass
class Problems:
    """What is wrong with a file: the first `MAX_PROBLEMS`, and how many."""

    listed: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(
        self, code: str, message: str, row: int | None = None, column: str | None = None, value: str | None = None
    ) -> None:
        """Note one problem; its fields are those of `Problem`."""
        self.count += 1
        if len(self.listed) < MAX_PROBLEMS:
            self.listed.append(Problem(code, message, row, column, value))


@dataclass(frozen=True)
class RhoReader:
    """Reads kept drops from `location`, and counts them."""

    location: str
    columns: Columns
    reads: Counter[str] = field(default_factory=Counter)

    def drop(self, content_hash: str) -> bytes:
        """The bytes of a drop; raises as `drops.read_kept`."""
        self.reads["READ drops"] += 1
        return read_kept(self.location, content_hash)


@contextmanager
def open_reader(credentials: Credentials) -> Iterator[RhoReader]:
    """A reader of the installation's drops with the column map in force."""
    yield RhoReader(settings().drops_location, Columns.read(credentials.get(COLUMNS_SETTING)))


def judge(data: bytes, file_name: str, zone: ZoneInfo, credentials: Credentials) -> Judged:  # noqa: ARG001
    """Rho's verdict on a file: accepted as a whole, or every reason against it.

    Days lie between the setting FINANCE_OS_START_DATE and tomorrow, in `zone`. Raises `SourceError`
    (`setting_invalid`) if the column map is not one.
    """
    columns = Columns.read(credentials.get(COLUMNS_SETTING))
    problems = Problems()
    limits = (settings().start_date, datetime.now(zone).date() + timedelta(days=1))
    keys = [key for key, _ in read_rows(data, columns, zone, problems, limits)]
    source_ids = identify(keys, problems)
    if problems.count:
        return Quarantined(tuple(problems.listed), problems.count)
    days = [key.day for key, source_id in zip(keys, source_ids, strict=True) if source_id is not None]
    return Accepted(len(days), min(days, default=None), max(days, default=None))


def extract(reader: RhoReader, obj: SourceObject[None], request: Request) -> Extraction:  # noqa: ARG001
    """The transactions of the drops in `request.targets` whose day is one of `request.days`.

    A target is a content hash, or a `drops.Target`. A page bears the time its drop was received, where the target
    says so: a drop that is read again never overtakes one that came after it. Raises `SourceError`:
    `kept_drop_missing`, `kept_drop_altered`, `drops_unreachable`, `drop_not_readable`.
    """
    return Extraction(_items(reader, request), requested=lambda: dict(reader.reads))


def _items(reader: RhoReader, request: Request) -> Iterator[Item]:
    counted: Counter[date] = Counter()
    for target in map(Target.parse, request.targets):
        data = reader.drop(target.drop)
        requested_at = target.received_at or request.now()
        provenance = {"drop": target.drop} | ({"file_name": target.file_name} if target.file_name else {})
        page: list[Record] = []
        for record in _records(data, reader.columns, request, target.drop):
            counted[record.day] += 1
            page.append(record)
            if len(page) == PAGE_ROWS:
                yield Page(page, requested_at, provenance=provenance)
                page = []
        if page:
            yield Page(page, requested_at, provenance=provenance)
    yield RemoteCount(dict(counted))


def _records(data: bytes, columns: Columns, request: Request, content_hash: str) -> Iterator[Record]:
    """The records of an accepted file on the days that are asked for. It is read twice, to keep memory flat."""
    problems = Problems()
    keys = [key for key, _ in read_rows(data, columns, request.zone, problems)]
    source_ids = identify(keys, problems)
    if problems.count:
        first = problems.listed[0]
        where = f"row {first.row}, " if first.row is not None else ""
        raise SourceError(
            "drop_not_readable",
            f"drop {content_hash[:12]} was accepted and cannot be read any more ({where}{first.code}): "
            f"{COLUMNS_SETTING} has changed since; set it so that this file can be read too",
            permanent=True,
        )
    for (key, payload), source_id in zip(read_rows(data, columns, request.zone, problems), source_ids, strict=True):
        if source_id is not None and key.day in request.days:
            yield Record(source_id, payload, key.day, provenance=key.line)


def identify(keys: Sequence[Key], problems: Problems) -> list[str | None]:
    """The source ID of each row; `None` for one that only repeats an earlier row with the same transaction ID.

    That is the transaction ID; else `ref:<reference>@<day>`; else `row:<hash>` of what the row says of the
    transaction. References recur (a monthly rent), so they name a transaction on their day only. Rows that share a
    basis and a day are told apart by `:2`, `:3` … in the order of their contents, so that the order of the file
    does not matter. Adds a problem for a transaction ID that two different rows have.
    """
    source_ids: list[str | None] = [None] * len(keys)
    first_with: dict[str, Key] = {}
    alike: defaultdict[tuple[str, date], list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        if key.transaction_id is None:
            alike[key.basis, key.day].append(position)
            continue
        first = first_with.setdefault(key.transaction_id, key)
        if first is key:
            source_ids[position] = key.transaction_id
        elif first.digest != key.digest:
            problems.add(
                "transaction_id_twice",
                f"the transaction ID of row {first.line} is here again with other contents: an ID names one "
                "transaction; correct the file, or turn the field transaction_id off in the column map",
                key.line,
            )
    for (basis, _), positions in alike.items():
        for number, position in enumerate(sorted(positions, key=lambda position: keys[position].digest), start=1):
            source_ids[position] = basis if number == 1 else f"{basis}:{number}"
    return source_ids


def read_rows(
    data: bytes, columns: Columns, zone: ZoneInfo, problems: Problems, limits: tuple[date, date] | None = None
) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Key and payload of a file's transactions, in its order, lazily; what cannot be read becomes a problem instead.

    `limits` are the first and the last day that a transaction may have. Rows are counted in lines from 1, the
    header's; a record is named by the line it begins on. Rows without any content are skipped.
    """
    text = _decoded(data, problems)
    if text is None:
        return
    delimiter = _delimiter(text, columns)
    header: _Header | None = None
    for line, cells in _lines(text, delimiter, problems):
        if header is None:
            header = _header(cells, line, delimiter, columns, problems)
            if header is None:
                return
        elif len(cells) != len(header.names):
            message = (
                f"has {len(cells)} cells where the header has {len(header.names)}: quote cells that contain the "
                "delimiter, and leave no line cut short"
            )
            problems.add("ragged_line", message, line, header.known_name(len(cells)))
        else:
            row = _RowReader(header, cells, line, columns, zone, problems).read(limits)
            if row is not None:
                yield row
    if header is None and not problems.count:
        problems.add("empty_file", "holds nothing, not even a header: export it again")


def _decoded(data: bytes, problems: Problems) -> str | None:
    """The text of a file in UTF-8, without its byte order mark."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.add("not_utf8", "is UTF-16 from its first byte on: save it as CSV in UTF-8", 1)
        return None
    nul = data.find(b"\0")
    if nul >= 0:
        message = f"byte {nul + 1:,} of the file is NUL, which no text has: save it as CSV in UTF-8"
        problems.add("not_text", message, _line_of(data, nul))
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        message = f"byte {start + 1:,} of the file (0x{data[start]:02x}) is not UTF-8: save it as CSV in UTF-8"
        problems.add("not_utf8", message, _line_of(data, start))
        return None


def _line_of(data: bytes, position: int) -> int:
    before = data[:position]
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


def _lines(text: str, delimiter: str, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """Records with the line that each begins on, empty ones left out; ends at the first that is no CSV."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:  # its message names characters and limits, never contents
        message = f"cannot be read as CSV ({error}): a quote is probably missing or too many; nothing after it was read"
        problems.add("broken_csv", message, line)


def _delimiter(text: str, columns: Columns) -> str:
    """The delimiter that gives the first line the most headers that are known; a comma if none is."""
    known = {_plain(header) for name in _FIELDS for header in columns.headers(name)}

    def recognized(delimiter: str) -> int:
        cells = next(_lines(text, delimiter, Problems()), (1, []))[1]
        return len(known.intersection(map(_plain, cells)))

    return max(_DELIMITERS, key=recognized)


def _plain(header: str) -> str:
    return re.sub(r"[\s_-]+", " ", header).strip().casefold()


@dataclass(frozen=True)
class _Header:
    """A file's headers as they stand there, the position of each field, and the delimiter."""

    names: tuple[str, ...]
    positions: Mapping[str, int]
    delimiter: str

    def known_name(self, position: int) -> str | None:
        """The header at `position`, if a field is read from it. Other headers may be anything, and are not shown."""
        return self.names[position] if position in self.positions.values() else None


def _header(cells: list[str], line: int, delimiter: str, columns: Columns, problems: Problems) -> _Header | None:
    names = tuple(cell.strip() for cell in cells)
    before = problems.count
    plain: dict[str, int] = {}
    for position, name in enumerate(names):
        if not name:
            problems.add("unnamed_column", f"column {position + 1} has no header: name it, or take it out", line)
        elif (first := plain.setdefault(_plain(name), position)) != position:
            message = f"columns {first + 1} and {position + 1} have the same header: rename one, or take it out"
            problems.add("duplicate_column", message, line)
    positions: dict[str, int] = {}
    for name in _FIELDS:
        found = next((plain[_plain(item)] for item in columns.headers(name) if _plain(item) in plain), None)
        if found is not None:
            positions[name] = found
    if "transacted_on" not in positions and "posted_on" not in positions:
        _missing("a date", columns.headers("posted_on") + columns.headers("transacted_on"), line, problems)
    if "amount" not in positions and not {"debit", "credit"} <= set(positions):
        _missing("an amount (or both debit and credit)", columns.headers("amount"), line, problems)
    return _Header(names, positions, delimiter) if problems.count == before else None


def _missing(what: str, headers: Sequence[str], line: int, problems: Problems) -> None:
    known = f", or {' or '.join(headers[1:])}" if headers[1:] else ""
    message = f"is missing{known}: {what} is needed; put the header in the first row, or name it in {COLUMNS_SETTING}"
    problems.add("missing_column", message, line, headers[0] if headers else None)


class _Unreadable(Exception):
    """A cell that has no single meaning."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _RowReader:
    """Reads the cells of one row; every cell that cannot be read is a problem, so that a report names them all."""

    def __init__(
        self, header: _Header, cells: list[str], line: int, columns: Columns, zone: ZoneInfo, problems: Problems
    ) -> None:
        self._header = header
        self._cells = cells
        self._line = line
        self._columns = columns
        self._zone = zone
        self._problems = problems

    def read(self, limits: tuple[date, date] | None) -> tuple[Key, dict[str, Any]] | None:
        """The row's key and payload; `None` if there is a problem in it."""
        before = self._problems.count
        transaction_id = self._transaction_id()
        posted_on, transacted_on = self._date("posted_on"), self._date("transacted_on")
        day = posted_on or transacted_on
        if day is None and self._problems.count == before:
            self._refuse(
                "missing_date", "has no date: a transaction belongs to the day it was posted", self._date_field()
            )
        elif day is not None and limits is not None:
            self._check_limits(day, limits, "posted_on" if posted_on else "transacted_on")
        currency = self._currency()
        amount = self._amount(currency) if currency is not None else None
        if self._problems.count > before:
            return None
        assert day is not None
        assert amount is not None
        identity = {
            "posted_on": posted_on.isoformat() if posted_on else None,
            "transacted_on": transacted_on.isoformat() if transacted_on else None,
            "amount_minor": amount,
            "currency": currency,
            **{name: self._text(name) for name in _TEXTS},
        }
        raw = dict(zip(self._header.names, self._cells, strict=True))
        status = self._text("status")
        payload = {
            "transaction_id": transaction_id,
            **identity,
            "direction": "in" if amount > 0 else "out" if amount < 0 else "none",
            "status": _STATUSES.get(status.casefold(), "other") if status else None,
            "row": raw,
        }
        reference = identity["reference"]
        # A reference with blanks in it is a remark, which names nothing and may be personal data.
        if reference and _IDENTIFIER.fullmatch(reference):
            basis = f"ref:{reference}@{day}"
        else:
            basis = f"row:{hashlib.sha256(canonical_json(identity)).hexdigest()}"
        digest = hashlib.sha256(canonical_json(raw)).digest()
        return Key(self._line, day, transaction_id, basis, digest), payload

    def _text(self, name: str) -> str | None:
        position = self._header.positions.get(name)
        return (self._cells[position].strip() or None) if position is not None else None

    def _refuse(self, code: str, message: str, name: str, *, show: bool = False) -> None:
        position = self._header.positions.get(name)
        column = self._header.names[position] if position is not None else None
        self._problems.add(code, message, self._line, column, self._text(name) if show else None)

    def _transaction_id(self) -> str | None:
        transaction_id = self._text("transaction_id")
        if transaction_id and (len(transaction_id) > LONGEST_ID or not transaction_id.isprintable()):
            message = f"is no transaction ID: it has line breaks, or more than {LONGEST_ID} characters"
            self._refuse("bad_transaction_id", message, "transaction_id")
        return transaction_id

    def _date_field(self) -> str:
        return "posted_on" if "posted_on" in self._header.positions else "transacted_on"

    def _date(self, name: str) -> date | None:
        text = self._text(name)
        if text is None:
            return None
        try:
            return parse_date(text, self._zone, self._columns.date_format)
        except _Unreadable as error:
            self._refuse(error.code, error.message, name, show=True)
            return None

    def _check_limits(self, day: date, limits: tuple[date, date], name: str) -> None:
        first, last = limits
        if day < first:
            message = f"lies before {first}, the first day that is kept: correct it, or set FINANCE_OS_START_DATE"
            self._refuse("day_too_early", message, name, show=True)
        elif day > last:
            self._refuse("day_in_future", f"lies after {last}, which is tomorrow: correct it", name, show=True)

    def _currency(self) -> str | None:
        if "currency" not in self._header.positions:
            return currency_code(self._columns.default_currency)
        try:
            return currency_code(self._text("currency") or "")
        except NotMoney as error:
            self._refuse("bad_currency", f"is no currency ({error}): correct it", "currency")
            return None

    def _amount(self, currency: str) -> int | None:
        """Signed minor units: what came in is positive."""
        name = "amount"
        try:
            if name in self._header.positions:
                return self._signed(self._parsed_amount(name, currency), currency)
            sides = {}
            for name in ("debit", "credit"):
                if self._text(name) is not None:
                    sides[name] = self._parsed_amount(name, currency)
                    if sides[name] < 0:
                        raise _Unreadable("bad_amount", "has a sign: debit and credit are amounts without one")
            if len([side for side in sides.values() if side]) > 1 or not sides:
                which = "both a debit and a credit" if sides else "neither a debit nor a credit"
                raise _Unreadable("bad_amount", f"has {which}: a transaction has one of them")
            return minor_units(sides.get("credit", Decimal(0)) - sides.get("debit", Decimal(0)), currency)
        except _Unreadable as error:
            self._refuse(error.code, error.message, name, show=True)
            return None

    def _parsed_amount(self, name: str, currency: str) -> Decimal:
        # Where lines are cut at semicolons, a comma is the decimal point as often as not.
        return parse_amount(self._text(name), currency, commas_group=self._header.delimiter != ";")

    def _signed(self, amount: Decimal, currency: str) -> int | None:
        minor = minor_units(amount, currency)
        if "direction" not in self._header.positions:
            return minor
        sign = _DIRECTIONS.get((self._text("direction") or "").casefold())
        if sign is None:
            self._refuse("bad_direction", f"is not one of {', '.join(_DIRECTIONS)}: correct it", "direction")
            return None
        if minor < 0 < sign:
            self._refuse("bad_direction", "says that money came in, and the amount is negative", "direction")
            return None
        return abs(minor) * sign


def _is_date_format(date_format: str) -> bool:
    example = date(2026, 8, 31)
    return datetime.strptime(example.strftime(date_format), date_format).date() == example


def parse_amount(text: str | None, currency: str, *, commas_group: bool = True) -> Decimal:
    """An amount as banks write it: `1,234.50`, `$12`, `-$12`, `(12.00)` and `12.00-` for what is negative.

    `_Unreadable` for anything else, a decimal comma among it, and for more decimals than `currency` has. Unless
    `commas_group`, a comma without a decimal point behind it (1,234) has two meanings and is refused.
    """
    if text is None:
        raise _Unreadable("bad_amount", "has no amount: a transaction has one")
    match = _AMOUNT.fullmatch(text.replace("\u2212", "-").replace("\u00a0", ""))
    if match is None or bool(match["open"]) != bool(match["close"]):
        raise _Unreadable("bad_amount", "is not an amount such as 1234.50, 1,234.50, -12.00, (12.00) or 12.00-")
    signs = [match["before"], match["after"], match["trailing"], match["open"]]
    if len([sign for sign in signs if sign]) > 1:
        raise _Unreadable("bad_amount", "has more than one sign")
    if match["dollar"] and currency not in _DOLLARS:
        raise _Unreadable("bad_amount", f"is in dollars, and its currency is {currency}")
    fraction = match["fraction"] or ""
    if "," in match["whole"] and not fraction and not commas_group:
        raise _Unreadable("ambiguous_amount", "has a comma that could be a decimal point: write 1234.00")
    if len(fraction) - 1 > exponent(currency):
        raise _Unreadable("amount_too_fine", f"has more decimals than {currency} has ({exponent(currency)})")
    amount = Decimal(match["whole"].replace(",", "") + fraction)
    return -amount if any(sign in ("-", "(") for sign in signs) else amount


def parse_date(text: str, zone: ZoneInfo, date_format: str | None = None) -> date:
    """A date that has one meaning only; a moment with an offset is the business day that it falls on in `zone`.

    With `date_format` (as `strptime` takes it) dates have that format, and no other is tried. `_Unreadable` for
    anything else: 01/02/2026 is two days, and two digits are no year.
    """
    if iso := _ISO_TIME.fullmatch(text):
        try:
            moment = datetime.fromisoformat(f"{iso['date']}T{iso['time']}{iso['offset'] or ''}")
            return day_of(moment, zone) if moment.tzinfo else moment.date()
        except (ValueError, OverflowError):
            raise _Unreadable("bad_date", "is no date that exists") from None
    formats = (date_format,) if date_format else _UNAMBIGUOUS_DATES
    for candidate in formats:
        try:
            return datetime.strptime(text, candidate).date()
        except ValueError:
            continue
    if date_format:
        raise _Unreadable("bad_date", f"is not a date in the format {date_format}, as {COLUMNS_SETTING} says")
    if slashed := _SLASHED.fullmatch(text):
        first, second, year = map(int, slashed.groups())
        readings: set[date] = set()
        for month, day in ((first, second), (second, first)):
            try:
                readings.add(date(year, month, day))
            except ValueError:
                continue
        if len(readings) == 1:
            return readings.pop()
        if readings:
            message = f'could be either of two days: write 2026-08-31, or set "date_format" in {COLUMNS_SETTING}'
            raise _Unreadable("ambiguous_date", message)
    raise _Unreadable("bad_date", "is no date: write it as 2026-08-31")


RHO = Source(
    system="rho",
    title="Rho CSV",
    order=5,
    description="Cash transactions of the company's bank, from CSV exports that an operator drops.",
    cadence=Cadence.MANUAL,
    sla=timedelta(days=7),
    credentials=(),
    options=(COLUMNS_SETTING,),
    reads=(Take("*.csv"),),
    cursor_strategy="Operator-provided CSV import with source filename and row number for replayable fallback.",
    evidence_policy="Store transaction ID/reference or row hash, source file name, row number, "
    "posting/settlement date, and payload hash.",
    objects=(
        SourceObject(
            "rho_cash_transaction",
            description="One movement of cash on a Rho account, on the day it was posted (until then: begun).",
            detail=None,
            label="rho_cash_transaction",
            reads=Reads.DROP,
            columns=(
                Column("transaction_id", "text", "Rho's ID, where the export has one"),
                Column("posted_on", "date", "Settlement or posting date"),
                Column("transacted_on", "date", "Date of the transaction"),
                Column("amount_minor", "integer", "Signed minor units of the currency; money that came in is positive"),
                Column("currency", "text", "ISO 4217 code"),
                Column("direction", "text", "in, out or none"),
                Column("status", "text", "posted, pending, cancelled or other"),
                Column("type", "text", "How it was paid, as the file has it"),
                Column("reference", "text", "Reference, as the file has it"),
                Column("description", "text", "Free text"),
                Column("counterparty", "text", "Who paid or was paid"),
                Column("account", "text", "Account, as the file has it"),
                Column("row", "object", "The row as it was read: text by header"),
            ),
            shown=("transaction_id", "posted_on", "transacted_on", "amount_minor", "currency", "direction", "status"),
        ),
    ),
    open=open_reader,
    extract=extract,
    judge=judge,
    kinds=("csv",),
    read_scope="CSV files that an operator hands in.",
)
