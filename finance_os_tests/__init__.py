"""Tests: they mirror the folders of finance_os, against a real PostgreSQL, real SDKs and a real Dagster."""
