"""Tests of `finance_os.observability`, with the OpenTelemetry SDK and over a real socket."""
