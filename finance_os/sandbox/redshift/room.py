"""The room of Redshift in the sandbox: a warehouse derived from the world, its two doors, and the controls of tests."""

import asyncio
import time
from collections.abc import Callable
from datetime import date
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.types import ASGIApp

from ..books import DAY
from ..company import Planted
from ..ids import letters
from ..world import World
from . import warehouse
from .content import MICRO, AdServer, Arrivals, Impression
from .data_api import DataApi, Place
from .front_door import FrontDoor

NAME = "finance-os-sandbox"
REGION = "us-east-1"


class RedshiftRoom:
    """A Redshift cluster and workgroup of one company, in a database on the PostgreSQL at `admin_url`.

    Its wire protocol is spoken on a port of its own (`env`), the Data API is `app` (`data_api_env`). `clock` gives
    real seconds, by which sessions live.
    """

    name = "redshift"

    def __init__(
        self,
        world: World,
        admin_url: str,
        *,
        database: str = "redshift",
        password: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.world = world
        self._server = AdServer(world)
        self._added = 0
        self.warehouse = warehouse.create(admin_url, self._server.arrivals(), database=database, password=password)
        reader = self.warehouse.reader
        self.front_door = FrontDoor(self.warehouse.owner, database, {reader: self.warehouse.password})
        seed = f"redshift:{world.stripe.account}"
        self.access_key_id = "AKIA" + letters(f"key:{seed}", 16).upper()
        self.secret_access_key = letters(f"secret:{seed}", 40)
        self.secret_arn = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:{NAME}-reader"
        place = Place(NAME, database, self.secret_arn, reader)
        keys = {self.access_key_id: self.secret_access_key}
        self.data_api = DataApi(self.warehouse.reading, place, keys, clock)

    @property
    def app(self) -> ASGIApp:
        """The Data API."""
        return self.data_api

    def env(self, base: str) -> dict[str, str]:  # noqa: ARG002 (every room is told)
        """The variables that point a process at the cluster's wire protocol, as the reader."""
        login = f"{self.warehouse.reader}:{quote(self.warehouse.password, safe='')}"
        place = f"127.0.0.1:{self.front_door.port}/{self.warehouse.database}"
        return {"FINANCE_OS_REDSHIFT_URL": f"redshift://{login}@{place}?sslmode=disable"}

    def data_api_env(self, base: str) -> dict[str, str]:
        """The variables that point a process at the Data API instead."""
        given = f"region={REGION}&secret_arn={quote(self.secret_arn)}&endpoint={quote(base.rstrip('/'), safe='')}"
        return {
            "FINANCE_OS_REDSHIFT_URL": f"redshift-data://{NAME}/{self.warehouse.database}?{given}",
            "FINANCE_OS_REDSHIFT_AWS_ACCESS_KEY_ID": self.access_key_id,
            "FINANCE_OS_REDSHIFT_AWS_SECRET_ACCESS_KEY": self.secret_access_key,
        }

    def follow(self) -> None:
        """Let what has arrived until the world's present moment be there."""
        self.warehouse.add(self._server.arrivals())

    def planted(self) -> list[Planted]:
        return self._server.planted()

    def fault(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        """An error answer as the Data API would give it: `429` (which AWS answers with 400), `500` or `403`."""
        status, code, message = {
            "429": (400, "ThrottlingException", "Rate exceeded"),
            "500": (500, "InternalServerException", "The request processing has failed."),
            "403": (400, "AccessDeniedException", "User is not authorized to perform: redshift-data:ExecuteStatement"),
        }[kind]
        headers = {"content-type": "application/x-amz-json-1.1", "x-amzn-requestid": "sandboxfault"}
        return status, headers, msgspec.json.encode({"__type": code, "Message": message})

    async def change(self, action: str, what: dict[str, Any]) -> Any:
        """What happens to a warehouse, or to those who read it.

        `late_impressions` of a `day` and `publisher` (`campaign`, `count`, `microdollars` each) arrive now;
        `delete_rows` of a `day` and `publisher` from a `table`; `add_rows` puts a `count` of synthetic ones into a
        `table` from a `day` on over `days`; `page_rows` sets how many rows a page of a result has; `statement_delay`
        lets statements wait for `seconds`; `lose_sessions` ends the Data API's sessions, `drop_connections` those of
        the wire protocol. ValueError for anything else.
        """
        try:
            match action:
                case "late_impressions":
                    return await asyncio.to_thread(self.late_impressions, **_dated(what))
                case "delete_rows":
                    return {"deleted": await asyncio.to_thread(self._delete, **_dated(what))}
                case "add_rows":
                    first = _dated(what)
                    day = first.pop("day", self.world.today)
                    table = first.pop("table", "ad_impressions")
                    await asyncio.to_thread(self.warehouse.add_rows, table, first=day, **first)
                    return {"table": table, "count": what["count"]}
                case "page_rows":
                    self.data_api.rows_per_page = _positive(int, **what)
                    return {"rows": self.data_api.rows_per_page}
                case "statement_delay":
                    self.data_api.delay = _positive(float, **what)
                    return {"seconds": self.data_api.delay}
                case "lose_sessions":
                    return {"lost": await asyncio.to_thread(self.data_api.lose_sessions)}
                case "drop_connections":
                    return {"dropped": self.front_door.drop_connections()}
        except TypeError as error:
            raise ValueError(f"Redshift cannot {action} with {sorted(what)}: {error}") from None
        raise ValueError(f"Redshift cannot {action}")

    def late_impressions(
        self, *, day: date, publisher: str, campaign: str = "cmp_0000001", count: int = 1, microdollars: int = 1_000
    ) -> dict[str, Any]:
        """Impressions of a (UTC) day that arrive now."""
        start = int((day - date(1970, 1, 1)).days) * DAY * MICRO
        rows = Arrivals()
        for number in range(count):
            self._added += 1
            rows.impressions.append(
                Impression(
                    id=f"imp_late_{self._added:08d}",
                    campaign=campaign,
                    publisher=publisher,
                    advertiser="adv_000001",
                    occurred=start + (2 * number + 1) * DAY * MICRO // (2 * count),
                    ingested=self.world.now * MICRO,
                    price=microdollars,
                )
            )
        return {"added": self.warehouse.add(rows), "microdollars": count * microdollars}

    def _delete(self, *, day: date, publisher: str, table: str = "ad_impressions") -> int:
        if table not in warehouse.COLUMNS:
            raise ValueError(f"there is no table {table}; there are {', '.join(warehouse.COLUMNS)}")
        return self.warehouse.delete(table, publisher, day)

    def close(self) -> None:
        """Hang up on everyone. The database stays, as Gravity's does."""
        self.front_door.close()
        self.data_api.close()


def _dated(what: dict[str, Any]) -> dict[str, Any]:
    """`what` with its day as a date. ValueError where it is none."""
    return {**what, "day": date.fromisoformat(str(what["day"]))} if "day" in what else dict(what)


def _positive(kind: Callable[[Any], Any], **what: Any) -> Any:
    """The one number in `what`. ValueError where it is none, or below zero."""
    if len(what) != 1:
        raise ValueError(f"say one number, not {sorted(what)}")
    number = kind(next(iter(what.values())))
    if number < 0:
        raise ValueError(f"{number} is below zero")
    return number
