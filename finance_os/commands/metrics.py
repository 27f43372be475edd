"""`finance-os metrics`: what waits and what is open now, as the gauges tell it."""

from rich.table import Table

from finance_os.commands.opened import console, opened_database


def metrics() -> None:
    """Show the gauges as they would be exported now. docs/metrics.md says what each is, and how all are exported."""
    from finance_os.observability.instruments import INSTRUMENTS, Kind
    from finance_os.web.watched import watched

    with opened_database() as database:
        watch = watched(database)
        found = {each: list(watch.readings(each)) for each in INSTRUMENTS if each.kind is Kind.GAUGE}
    table = Table()
    table.add_column("metric", no_wrap=True)
    table.add_column("of")
    table.add_column("value", justify="right")
    for instrument, readings in found.items():
        for value, attributes in readings or [(0.0, {})]:
            table.add_row(instrument.name, ", ".join(attributes.values()), f"{value:,.0f} {instrument.unit}")
    console.print(table)
