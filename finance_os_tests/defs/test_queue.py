"""Dagster's queue and pools as dagster.yaml sets them: what webhooks ask for is not held up by reads of whole days."""

import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from finance_os.defs.jobs import bulk_tags, job_name
from finance_os.defs.location import build_defs
from finance_os.defs.webhook_sensor import job_name as webhook_job_name
from finance_os.local.stack import checkout
from finance_os.sources.source import Source
from finance_os.sources.stripe import STRIPE
from finance_os.webhooks.settings import WebhookSettings
from finance_os_tests.conftest import create_database, drop_database

WEBHOOK = {"dagster/priority": "10"}

INVOICE_PAID = ("stripe_invoice", "stripe_invoice_payment", "stripe_credit_note", "stripe_charge")
"""Object types that one run for webhooks may read."""

_PLACE = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("finance_os"), "__repository__")
_CODE = RepositoryPythonOrigin(sys.executable, ModuleCodePointer("finance_os.definitions", "defs"))


@pytest.fixture(scope="module")
def instance(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance with the installation's dagster.yaml, on a database of its own."""
    name, home = f"queue_{os.getpid()}", tmp_path_factory.mktemp("queue")
    shutil.copy(checkout() / "dagster.yaml", home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINANCE_OS_DAGSTER_DATABASE_URL", create_database(server_url, name))
        with dg.DagsterInstance.from_config(str(home)) as opened:
            opened.event_log_storage.initialize_concurrency_limit_to_default(STRIPE.system)  # else nothing is held up
            yield opened
    drop_database(server_url, name)


@pytest.fixture(autouse=True)
def _nothing_left(instance: dg.DagsterInstance) -> Iterator[None]:
    yield
    for run in instance.get_runs():
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        instance.delete_run(run.run_id)


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs()


class Queue:
    """The runs of a deployment, and which of them the daemon would start now."""

    def __init__(self, instance: dg.DagsterInstance, defs: dg.Definitions) -> None:
        self.instance, self._defs = instance, defs

    def add(self, job: str, source: Source, object_types: Sequence[str], status: DagsterRunStatus, **tags: str) -> str:
        """A run of `job` that reads object types of a source; its ID."""
        keys = frozenset(dg.AssetKey([source.system, each]) for each in object_types)
        subset = self._defs.resolve_job_def(job).get_subset(asset_selection=keys)
        run = self.instance.create_run_for_job(
            subset,
            run_id=str(uuid.uuid4()),
            asset_selection=keys,
            status=status,
            tags=tags,
            remote_job_origin=RemoteJobOrigin(_PLACE, job),
            job_code_origin=JobPythonOrigin(job, _CODE),
        )
        return run.run_id

    def started(self) -> set[str]:
        with QueuedRunCoordinatorDaemon(1) as daemon:
            found = daemon._get_runs_to_dequeue(self.instance, self.instance.get_concurrency_config(), None)
        return {run.run_id for run in found}


@pytest.fixture
def queue(instance: dg.DagsterInstance, defs: dg.Definitions) -> Queue:
    return Queue(instance, defs)


def test_runs_for_webhooks_start_beside_a_backfill_that_has_just_begun(queue: Queue) -> None:
    """A run that is beginning counts with all of its object types, though it reads one after the other."""
    everything = [obj.object_type for obj in STRIPE]
    queue.add(job_name(STRIPE), STRIPE, everything, DagsterRunStatus.STARTING)
    job = webhook_job_name(STRIPE)
    queue.add(job, STRIPE, INVOICE_PAID, DagsterRunStatus.STARTING, **WEBHOOK)
    waiting = queue.add(job, STRIPE, INVOICE_PAID, DagsterRunStatus.QUEUED, **WEBHOOK)
    assert queue.started() == {waiting}


def test_one_run_at_a_time_reads_whole_days_and_those_for_webhooks_come_first(queue: Queue) -> None:
    bulk = bulk_tags(STRIPE)
    queue.add(job_name(STRIPE), STRIPE, ["stripe_invoice"], DagsterRunStatus.STARTED, **bulk)
    queue.add(job_name(STRIPE), STRIPE, ["stripe_charge"], DagsterRunStatus.QUEUED, **bulk)
    waiting = queue.add(webhook_job_name(STRIPE), STRIPE, INVOICE_PAID, DagsterRunStatus.QUEUED, **WEBHOOK)
    assert queue.started() == {waiting}


def test_no_run_for_webhooks_waits_for_its_turn_beside_a_read_of_whole_days(queue: Queue) -> None:
    """A run that waits within its process looks again and again without a pause, and takes others the processor."""
    pools = queue.instance.event_log_storage
    at_once = WebhookSettings().runs_at_once
    runs = [
        queue.add(job_name(STRIPE), STRIPE, ["stripe_invoice"], DagsterRunStatus.STARTED),
        *(
            queue.add(webhook_job_name(STRIPE), STRIPE, ["stripe_invoice"], DagsterRunStatus.STARTED, **WEBHOOK)
            for _ in range(at_once)
        ),
    ]
    turns = [pools.claim_concurrency_slot(STRIPE.system, run, "stripe__stripe_invoice").is_claimed for run in runs]
    assert turns == [True] * (1 + at_once)


def test_no_sensor_waits_for_a_tick_of_another_one_that_goes_on(instance: dg.DagsterInstance) -> None:
    assert instance.get_sensor_settings()["use_threads"]
    assert instance.get_sensor_settings()["num_workers"] >= len(list(build_defs().sensors or ()))
