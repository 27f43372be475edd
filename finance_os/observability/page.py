"""The page of all metrics, as Markdown."""

from finance_os.observability.instruments import INSTRUMENTS, Kind

_HEAD = """\
# Metrics and logs

<!-- Written by `finance-os artifacts write` from finance_os/observability/instruments.py. Do not edit. -->

Metrics go out over OpenTelemetry, once the standard variables say where to:

```sh
export OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318   # OTLP over HTTP; /v1/metrics is added
export OTEL_METRIC_EXPORT_INTERVAL=60000                   # milliseconds
export OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta   # for backends that cannot add up many short processes
pip install 'finance-os[telemetry]'                        # the SDK and the exporter; `make` has them
```

Without them nothing is exported, nothing is imported, and nothing is slowed down. Counters and histograms are counted
where it happens: in Dagster's runs, in `finance-os qbo`, in the web app. Gauges are read from the database by
`finance-os web`, and shown by `finance-os metrics` at any time.

No metric has personal data or an external ID in it: attributes are the business, the source system, kinds of objects,
states and codes. What a sender may choose is not among them.
"""

_TAIL = """
## Logs

`FINANCE_OS_LOG=json` makes every process write one JSON object a line to standard error, with `time`, `level`,
`logger`, `event` and what belongs to it. `FINANCE_OS_LOG_LEVEL` is `INFO` unless set; other libraries say what is a
warning. Of an error there is its type and where it was raised, not its words, which may hold what a person wrote.

`correlation_id` is the source system and the ID of the object that a line is about, such as `stripe:in_1Qx…`: the same
from the reads that a webhook asks for (`correlation_ids`, beside `event_keys` of the delivery) to the intent
(`intent_id`), its request (`requestid`, Intuit's `intuit_tid`) and the object in QuickBooks (`qbo_id`). At any time
later, `finance-os trace <event, Stripe or QuickBooks ID>` reads the same chain from the tables.
"""


def metrics_page() -> str:
    """The page."""
    lines = [_HEAD]
    for kind, title in ((Kind.COUNTER, "Counters"), (Kind.HISTOGRAM, "Histograms"), (Kind.GAUGE, "Gauges")):
        lines += [f"## {title}\n", "| name | unit | attributes | what it tells |", "|---|---|---|---|"]
        lines += [
            f"| `{each.name}` | `{each.unit}` | {', '.join(f'`{name}`' for name in each.attributes) or 'none'} | "
            f"{each.description} |"
            for each in INSTRUMENTS
            if each.kind is kind
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n" + _TAIL
