"""Metrics of real processes, as a collector gets them: OTLP over HTTP, on a socket of this machine."""

import gzip
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.observability import metrics


class Collector:
    """What came, by the name of the metric: its points, the latest export last; and who sent it."""

    def __init__(self) -> None:
        self.points: dict[str, list[Any]] = {}
        self.services: set[tuple[str, str]] = set()
        self.paths: set[str] = set()

    def take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        request = ExportMetricsServiceRequest.FromString(body)
        for of in request.resource_metrics:
            said = {each.key: each.value.string_value for each in of.resource.attributes}
            self.services.add((said["service.name"], said["service.instance.id"]))
            for scope in of.scope_metrics:
                for each in scope.metrics:
                    data = getattr(each, each.WhichOneof("data") or "")
                    self.points.setdefault(each.name, []).extend(data.data_points)

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """Attributes' values, sorted by their names → the last value."""
        return {
            tuple(each.value.string_value for each in sorted(point.attributes, key=lambda each: each.key)): (
                point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
            )
            for point in self.points.get(name, [])
        }


@contextmanager
def collector() -> Iterator[tuple[str, Collector]]:
    """A collector on a port of this machine; its address."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.take(self.path, gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            answer = ExportMetricsServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name it has)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", found
    finally:
        server.shutdown()
        server.server_close()


def plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("FINANCE_OS_", "OTEL_"))}


def test_the_web_app_exports_what_it_counted_and_what_waits(
    database: Database, acme: Connection, tmp_path: Path
) -> None:
    with collector() as (endpoint, got):
        process = subprocess.Popen(
            [sys.executable, "-m", "finance_os.commands.web", "--port", "0"],
            env={
                **plain(),
                "FINANCE_OS_DATABASE_URL": database.url,
                "FINANCE_OS_HOME": str(tmp_path),
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                "OTEL_METRIC_EXPORT_INTERVAL": "600000",  # only what is left at the end
                "COLUMNS": "200",
            },
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert address, said
            place = f"{address[0]}/webhooks/acme/stripe/{acme.connection_id}"
            assert httpx.post(place, content=b"{}").status_code == 503  # no secret is set
            assert httpx.post(f"{address[0]}/webhooks/acme/stripe/99", content=b"{}").status_code == 400
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    assert got.paths == {"/v1/metrics"}
    assert [name for name, _ in got.services] == ["finance-os"]
    assert got.values("finance_os.webhook.deliveries") == {
        ("acme", "secret_not_set", "stripe"): 1,
        ("", "unknown_connection", ""): 1,
    }
    assert got.values("finance_os.database.reachable") == {(): 1}


def test_a_short_process_leaves_what_it_counted_behind() -> None:
    code = (
        "from finance_os.observability import happened, metrics; assert metrics.start() and metrics.start();"
        "happened.requests_sent('acme', {'POST invoice': 3}); happened.requests_sent('acme', {'POST invoice': 4})"
    )
    with collector() as (endpoint, got):
        environment = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{endpoint}/mine", "OTEL_SERVICE_NAME": "books"}
        for _ in range(2):
            subprocess.run([sys.executable, "-c", code], env={**plain(), **environment}, check=True, timeout=60)
    assert got.paths == {"/mine"}
    assert got.values("finance_os.qbo.requests") == {("acme", "invoice", "POST"): 7}
    assert {name for name, _ in got.services} == {"books"}
    assert len(got.services) == 2, "processes can be told apart"


def test_a_collector_that_is_not_there_fails_nothing() -> None:
    code = (
        "from finance_os.observability import happened, metrics; assert metrics.start();"
        "happened.requests_sent('acme', {'POST invoice': 3}); print('done')"
    )
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**plain(), **environment}, check=True, timeout=60, capture_output=True
    )
    assert ended.stdout == b"done\n"


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"])
def test_a_protocol_that_is_not_spoken_is_told(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not metrics.start({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", name: "grpc"})
    assert "only http/protobuf is spoken" in caplog.text
