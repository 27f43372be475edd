"""Planning: intents a second from evidence that is in memory, and from the finance database."""

from collections.abc import Iterable
from typing import Any

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Record
from finance_os.evidence.windows import Days
from finance_os.stripe_qbo.books import OBJECT_TYPES
from finance_os.stripe_qbo.planning import Plan, plan, plan_of
from finance_os_tests.benchmarks.figures import Figure, seconds, side_by_side
from finance_os_tests.evidence.staged import page, stage
from finance_os_tests.stripe_qbo.mapping.worlds import KINDS, START, Company, company, evidence, living, rules, shown

BUSINESS = "bench_planning"


def intents_a_second(database: Database, days: int, size: int, rounds: int) -> list[Figure]:
    """Plans of a company of `size` advertisers over so many `days`, of which nothing is booked yet.

    The first is the plan as the pure function of the evidence that it is, with the input hash of each intent and what
    it depends on; the second reads that evidence and the books from the database before. The target is the first one's.
    """
    world = living(days, size, 7)
    with company(world) as realm:
        held, books, chosen = evidence(world), realm.books(days), rules()
        count = len(plan_of(held, books, chosen).intents)
        realm_id = realm.client.room.realm_id
        _stage_all(database, realm, {kind: shown(world, kind) for kind in KINDS}, days)

    def whole(found: Plan) -> None:
        assert len({each.input_hash for each in found.intents}) == count
        assert any(each.depends_on for each in found.intents)

    pure, read = side_by_side(
        rounds,
        lambda: seconds(lambda: whole(plan_of(held, books, chosen))),
        lambda: seconds(lambda: whole(plan(database, BUSINESS, realm_id, chosen))),
    )
    return [
        Figure(f"planning {count:,} intents from evidence", count / pure, "intents/s", at_least=5_000),
        Figure(f"planning {count:,} intents from the database", count / read, "intents/s"),
    ]


def _stage_all(
    database: Database, realm: Company, objects: dict[str, list[tuple[str, dict[str, Any]]]], days: int
) -> None:
    ensure_business(database, BUSINESS, "Bench", "UTC")
    stripe = ensure_connection(database, BUSINESS, "stripe")
    quickbooks = ensure_connection(database, BUSINESS, "quickbooks")
    for kind, held in objects.items():
        _stage(database, stripe, f"stripe_{kind}", held)
    _stage(database, quickbooks, "quickbooks_company_info", [(realm.client.room.realm_id, {})])
    for entity, object_type in OBJECT_TYPES.items():
        if entity == "ExchangeRate":
            rates = [(code, day, rate) for code in ("EUR", "JPY", "BHD") for day, rate in realm._rates(code, days)]  # pyright: ignore[reportPrivateUsage]
            _stage(database, quickbooks, object_type, [(f"{code}:{day}", rate) for code, day, rate in rates])
        elif entity == "Preferences":
            _stage(database, quickbooks, object_type, [("1", realm.client.get("preferences")[entity])])
        else:
            _stage(database, quickbooks, object_type, [(each["Id"], each) for each in realm.all(entity)])


def _stage(
    database: Database, connection: Connection, object_type: str, objects: Iterable[tuple[str, dict[str, Any]]]
) -> None:
    rows = [Record(source_id, {"Id": source_id, **each}, START) for source_id, each in objects]
    stage(database, connection, page(*rows), object_type=object_type, days=Days(START, START))


def main() -> None:
    """Measure on a server of its own, and print the figures."""
    import tempfile
    from pathlib import Path

    from rich.console import Console

    from finance_os.evidence import embedded
    from finance_os.evidence.database import migrate

    server = embedded.start(Path(tempfile.mkdtemp(prefix="finance-os-bench-")))
    server.cleanup_mode = "delete"
    database = Database(embedded.ensure_database(server, "planning"))
    migrate(database.url)
    for figure in intents_a_second(database, 90, 100, 5):
        Console().print(f"{figure.name}: {figure.value:,.0f} {figure.unit} {figure.target}")


if __name__ == "__main__":
    main()
