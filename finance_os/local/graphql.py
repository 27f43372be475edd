"""What a person does in the Dagster UI, over its GraphQL: launch a backfill, and see how runs are doing."""

from collections.abc import Sequence
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
        params = {
            "assetSelection": [{"path": list(key)} for key in asset_keys],
            "partitionNames": [str(day) for day in days],
            "title": title,
        }
        answer = self._ask(_LAUNCH, {"params": params})["launchPartitionBackfill"]
        if answer["__typename"] != "LaunchBackfillSuccess":
            raise DagsterRefused(f"{answer['__typename']}: {answer.get('message')}")
        return answer["backfillId"]

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

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(f"{self.address}/graphql", json={"query": query, "variables": variables}, timeout=60)
        body = answer.json()
        if answer.status_code != 200 or body.get("errors"):
            raise DagsterRefused(f"GraphQL answered {answer.status_code}: {body.get('errors')}")
        return body["data"]
