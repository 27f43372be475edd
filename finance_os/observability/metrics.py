"""Counting and timing what happens, for whoever collects it over OpenTelemetry.

Nothing is collected unless the standard variables say where to: `OTEL_EXPORTER_OTLP_ENDPOINT` or
`OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`. Without them no library is even imported, and counting costs a look at a name.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import logging
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from finance_os.observability.instruments import INSTRUMENTS, Instrument, Kind

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SERVICE = "finance-os"

_log = logging.getLogger(__name__)


class Watch(Protocol):
    """Who can tell the present readings of gauges."""

    def readings(self, instrument: Instrument) -> Iterable[tuple[float, Mapping[str, str]]]:
        """Values of a gauge, each with its attributes; none where it cannot be told."""
        ...


@dataclass
class _Collecting:
    """Where what is counted goes. `ours` is a provider that was made here and is to be flushed at the end."""

    meter: "Meter"
    made: dict[Instrument, Any]
    ours: Any = None


_collecting: _Collecting | None = None


def count(instrument: Instrument, amount: int = 1, **attributes: str) -> None:
    """Add to a counter. `ValueError` unless the attributes are exactly those that it has."""
    _require(instrument, Kind.COUNTER, attributes)
    if _collecting is not None and amount:
        _collecting.made[instrument].add(amount, attributes)


def record(instrument: Instrument, value: float, **attributes: str) -> None:
    """Record one duration, in seconds. `ValueError` unless the attributes are exactly those that it has."""
    _require(instrument, Kind.HISTOGRAM, attributes)
    if _collecting is not None:
        _collecting.made[instrument].record(value, attributes)


def is_on() -> bool:
    """Whether anybody collects: for what costs something to find out."""
    return _collecting is not None


def start(environment: Mapping[str, str] = os.environ) -> bool:
    """Begin to export if the environment says where to; whether it does. Once a process; further calls do nothing.

    Where something else (`opentelemetry-instrument`) has set up a provider, that one is used.
    """
    if _collecting is not None:
        return True
    if not _is_wanted(environment):
        return False
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.metrics import get_meter_provider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
    except ImportError:
        _log.warning("metrics are not exported: install finance-os[telemetry] for %s to count", ENDPOINTS[1])
        return False
    given = get_meter_provider()
    if isinstance(given, MeterProvider):
        use(given)
        return True
    provider = MeterProvider(
        metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())],
        resource=Resource.create(_service(environment)),
    )
    use(provider, ours=provider)
    return True


def use(provider: "MeterProvider", *, ours: Any = None) -> None:
    """Send what is counted from now on to `provider`."""
    global _collecting
    meter = provider.get_meter("finance_os")
    _collecting = _Collecting(meter, {each: _made(meter, each) for each in INSTRUMENTS}, ours)


def watch(source: Watch) -> None:
    """Have the gauges read from `source` whenever metrics are exported; nothing where nobody collects."""
    if _collecting is None:
        return
    from opentelemetry.metrics import CallbackOptions, Observation

    for each in INSTRUMENTS:
        if each.kind is not Kind.GAUGE:
            continue

        def observe(_: CallbackOptions, of: Instrument = each) -> list[Observation]:
            return [Observation(value, _checked(of, attributes)) for value, attributes in source.readings(of)]

        _collecting.meter.create_observable_gauge(each.name, [observe], each.unit, each.description)


def stop() -> None:
    """Export what was counted and not exported yet, and end."""
    global _collecting
    ended, _collecting = _collecting, None
    if ended is not None and ended.ours is not None:
        ended.ours.shutdown()


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_METRICS_EXPORTER", "otlp").strip() != "otlp":
        return False
    if not any(environment.get(name, "").strip() for name in ENDPOINTS):
        return False
    protocol = next((found for name in PROTOCOLS if (found := environment.get(name, "").strip())), "http/protobuf")
    if protocol != "http/protobuf":
        _log.warning("metrics are not exported: %s is %s, and only http/protobuf is spoken", PROTOCOLS[1], protocol)
        return False
    return True


def _service(environment: Mapping[str, str]) -> dict[str, str]:
    """What tells this process from others, unless the environment says it."""
    said = environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    found = {"service.name": SERVICE, "service.instance.id": str(uuid.uuid4())}
    if environment.get("OTEL_SERVICE_NAME"):
        del found["service.name"]
    return {name: value for name, value in found.items() if f"{name}=" not in said}


def _made(meter: "Meter", each: Instrument) -> Any:
    match each.kind:
        case Kind.COUNTER:
            return meter.create_counter(each.name, each.unit, each.description)
        case Kind.HISTOGRAM:
            return meter.create_histogram(
                each.name, each.unit, each.description, explicit_bucket_boundaries_advisory=list(each.boundaries)
            )
        case Kind.GAUGE:
            return None  # made when there is something to read it from


def _require(instrument: Instrument, kind: Kind, attributes: Mapping[str, str]) -> None:
    if instrument.kind is not kind:
        raise ValueError(f"{instrument.name} is a {instrument.kind}, not a {kind}")
    _checked(instrument, attributes)


def _checked(instrument: Instrument, attributes: Mapping[str, str]) -> Mapping[str, str]:
    if attributes.keys() != set(instrument.attributes):
        raise ValueError(f"{instrument.name} has the attributes {instrument.attributes}, not {tuple(attributes)}")
    return attributes
