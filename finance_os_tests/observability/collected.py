"""What is collected while a test runs, read with the SDK's own in-memory reader."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from finance_os.observability import metrics
from finance_os.observability.instruments import Instrument


@dataclass
class Collected:
    """Points by the name of their metric."""

    reader: InMemoryMetricReader

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        return {
            each.name: list(each.data.data_points)
            for of in (data.resource_metrics if data else ())
            for scope in of.scope_metrics
            for each in scope.metrics
        }

    def of(self, instrument: Instrument) -> dict[tuple[str, ...], float]:
        """Attributes' values, in the instrument's order → the value; of a histogram, how many were recorded."""
        return {
            tuple(str(point.attributes[name]) for name in instrument.attributes): (
                point.count if isinstance(point, HistogramDataPoint) else point.value
            )
            for point in self.points().get(instrument.name, [])
        }


@contextmanager
def collecting() -> Iterator[Collected]:
    """Collect everything that is counted within the block."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    metrics.use(provider)
    try:
        yield Collected(reader)
    finally:
        metrics.stop()
        provider.shutdown()
