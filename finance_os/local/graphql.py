"""What a person does in the Dagster UI, over its GraphQL: launch a backfill, and see how runs are doing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from finance_os.evidence.windows import Days

_LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on UnauthorizedError { message }
    ... on InvalidSubsetError { message }
  }
}
"""

_BACKFILL = """
query Backfill($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill { status error { message } }
    ... on PythonError { message }
  }
}
"""

_RUN = """
mutation Run($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on UnauthorizedError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""

_TEST_SCHEDULE = """
mutation Test($schedule: ScheduleSelector!, $timestamp: Float!) {
  scheduleDryRun(selectorData: $schedule, timestamp: $timestamp) {
    __typename
    ... on DryRunInstigationTick {
      evaluationResult {
        error { message }
        runRequests { runKey tags { key value } assetSelection { path } }
      }
    }
    ... on PythonError { message }
  }
}
"""

_FAILURES = """
query Failures($id: ID!) {
  logsForRun(runId: $id) {
    __typename
    ... on EventConnection {
      events { __typename ... on ExecutionStepFailureEvent { error { message cause { message } } } }
    }
    ... on PythonError { message }
  }
}
"""

_REPOSITORY = {"repositoryLocationName": "finance_os", "repositoryName": "__repository__"}

_RUNS = """
query Runs($filter: RunsFilter!) {
  runsOrError(filter: $filter, limit: 200) {
    __typename
    ... on Runs {
      results { runId status jobName tags { key value } startTime endTime
                stepStats { stepKey status } }
    }
    ... on PythonError { message }
  }
}
"""

ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})


class DagsterRefused(RuntimeError):
    """Dagster answered a request with an error."""


@dataclass(frozen=True)
class RunState:
    """How one run is doing; `done` of its `steps` have ended."""

    run_id: str
    status: str
    job_name: str
    tags: dict[str, str]
    done: int

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen in this run."""
        return self.status in ENDED


@dataclass(frozen=True)
class DagsterGraphQL:
    """A Dagster webserver's GraphQL at `address`."""

    address: str

    def launch_backfill(self, asset_keys: Sequence[Sequence[str]], days: Days, title: str) -> str:
        """Backfill assets over `days` as the UI does; the backfill's ID."""
        return self._launch_backfill(asset_keys, [str(day) for day in days], title)

    def launch_month_backfill(self, asset_key: Sequence[str], months: Sequence[str], title: str) -> str:
        """Backfill an asset of monthly partitions over `months` (`2026-03-01`); the backfill's ID."""
        return self._launch_backfill([asset_key], months, title)

    def launch_run(
        self, job: str, asset_keys: Sequence[Sequence[str]] | None = None, tags: Mapping[str, str] | None = None
    ) -> str:
        """Run a job, or what of its assets is given, as the UI's launchpad does; the run's ID."""
        selector: dict[str, Any] = {**_REPOSITORY, "pipelineName": job}
        if asset_keys is not None:
            selector["assetSelection"] = [{"path": list(key)} for key in asset_keys]
        given = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": given}}
        answer = self._ask(_RUN, {"params": params})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DagsterRefused(f"{answer['__typename']}: {answer.get('message') or answer.get('errors')}")
        return answer["run"]["runId"]

    def launch_schedule(self, name: str, job: str, at: float) -> list[str]:
        """Launch what a schedule asks for at a Unix time, as "Test schedule" in the UI does; the IDs of the runs."""
        schedule = {**_REPOSITORY, "scheduleName": name}
        answer = self._ask(_TEST_SCHEDULE, {"schedule": schedule, "timestamp": at})["scheduleDryRun"]
        if answer["__typename"] != "DryRunInstigationTick":
            raise DagsterRefused(f"{answer['__typename']}: {answer.get('message')}")
        tick = answer["evaluationResult"]
        if tick["error"]:
            raise DagsterRefused(f"{name} could not be evaluated: {tick['error']['message']}")
        return [
            self.launch_run(
                job,
                [asset["path"] for asset in request["assetSelection"]],
                {tag["key"]: tag["value"] for tag in request["tags"]} | {"dagster/run_key": request["runKey"]},
            )
            for request in tick["runRequests"]
        ]

    def failures(self, run_id: str) -> list[str]:
        """What the failed steps of a run say."""
        answer = self._ask(_FAILURES, {"id": run_id})["logsForRun"]
        if answer["__typename"] != "EventConnection":
            raise DagsterRefused(f"{answer['__typename']}: {answer.get('message')}")
        errors = [event["error"] for event in answer["events"] if event.get("error")]
        return [error["message"] for error in errors]

    def backfill_status(self, backfill_id: str) -> str:
        """`REQUESTED`, `COMPLETED_SUCCESS`, `COMPLETED_FAILED` and the like."""
        answer = self._ask(_BACKFILL, {"id": backfill_id})["partitionBackfillOrError"]
        if answer["__typename"] != "PartitionBackfill":
            raise DagsterRefused(f"{answer['__typename']}: {answer.get('message')}")
        return answer["status"]

    def runs(self, *, tags: dict[str, str] | None = None, created_after: float | None = None) -> list[RunState]:
        """Runs with all of `tags`, created after a Unix time; newest first."""
        wanted: dict[str, Any] = {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]}
        if created_after is not None:
            wanted["createdAfter"] = created_after
        answer = self._ask(_RUNS, {"filter": wanted})["runsOrError"]
        if answer["__typename"] != "Runs":
            raise DagsterRefused(f"{answer['__typename']}: {answer.get('message')}")
        return [
            RunState(
                run["runId"],
                run["status"],
                run["jobName"],
                {tag["key"]: tag["value"] for tag in run["tags"]},
                sum(step["status"] in ("SUCCESS", "FAILURE", "SKIPPED") for step in run["stepStats"]),
            )
            for run in answer["results"]
        ]

    def _launch_backfill(self, asset_keys: Sequence[Sequence[str]], partitions: Sequence[str], title: str) -> str:
        params = {
            "assetSelection": [{"path": list(key)} for key in asset_keys],
            "partitionNames": list(partitions),
            "title": title,
        }
        answer = self._ask(_LAUNCH, {"params": params})["launchPartitionBackfill"]
        if answer["__typename"] != "LaunchBackfillSuccess":
            raise DagsterRefused(f"{answer['__typename']}: {answer.get('message')}")
        return answer["backfillId"]

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(f"{self.address}/graphql", json={"query": query, "variables": variables}, timeout=60)
        body = answer.json()
        if answer.status_code != 200 or body.get("errors"):
            raise DagsterRefused(f"GraphQL answered {answer.status_code}: {body.get('errors')}")
        return body["data"]
