"""The sandbox as a child process: started, waited for, steered over HTTP, and gone when its user is."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec


@dataclass(frozen=True, slots=True)
class Running:
    """A sandbox that answers. `env` points a process at the first company, `others` at the second, if there is one."""

    env: Mapping[str, str]
    others: Sequence[Mapping[str, str]]
    admin: str
    process: subprocess.Popen[bytes]

    @property
    def base(self) -> str:
        return self.env["FINANCE_OS_STRIPE_API_BASE"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """An admin request such as `call("GET", "/health")`. RuntimeError with the sandbox's words where it refuses."""
        content = None if body is None else msgspec.json.encode(body)
        answer = httpx.request(method, self.admin + path, content=content, timeout=120, trust_env=False)
        if answer.status_code != 200:
            raise RuntimeError(f"{method} {path} on the sandbox: {answer.text}")
        return answer.json()

    def advance_to(self, moment: datetime) -> None:
        self.call("POST", "/clock", {"now": moment.isoformat()})

    def script(self, *rules: Mapping[str, Any]) -> None:
        """Add fault rules such as `{"path": "/v1/charges", "kind": "429", "on": 2}`."""
        self.call("POST", "/faults", list(rules))

    def clear_faults(self) -> None:
        self.call("DELETE", "/faults")

    def room(self, name: str, action: str, *, account: int = 0, **what: Any) -> Any:
        """Have a vendor's room change something, as `room("plaid", "remove_transaction", id="…")`."""
        return self.call("POST", f"/rooms/{name}", {"action": action, "account": account, **what})

    def change(self, action: str, **what: Any) -> Any:
        """Change an object at the present clock, as `change("update", id="cus_…", values={"name": "New"})`."""
        return self.call("POST", "/objects", {"action": action, **what})


@contextmanager
def running_sandbox(
    *,
    seed: int = 7,
    days: int = 90,
    start: date | None = None,
    size: int = 20,
    until: datetime | None = None,
    accounts: int = 1,
    port: int = 0,
    gravity_admin_url: str | None = None,
    gravity_database: str = "gravity",
    drops: Path | None = None,
    baselines: Path | None = None,
    kept: Path | None = None,
    webhook_url: str | None = None,
    quickbooks_webhook_url: str | None = None,
    plaid_webhook_urls: Sequence[str] = (),
    rate_limit: float | None = None,
    rooms: Sequence[str] | None = (),
) -> Iterator[Running]:
    """A sandbox process for the length of a `with` block. RuntimeError where it ends before it is ready.

    The company begins on `start`, or `days` ago if that is not given. `rooms` are the vendors to serve beside Stripe
    and Gravity; `None` means all of them. What is changed in them is there again when another sandbox of the same
    company is given the same `kept` folder.
    """
    options: dict[str, Any] = {
        "--seed": seed,
        "--days": days,
        "--start": start and start.isoformat(),
        "--size": size,
        "--until": until and until.isoformat(),
        "--accounts": accounts,
        "--port": port,
        "--gravity-admin-url": gravity_admin_url,
        "--gravity-database": gravity_database,
        "--redshift-database": "redshift" if gravity_database == "gravity" else f"{gravity_database}_redshift",
        "--drops": drops,
        "--baselines": baselines,
        "--kept": kept,
        "--webhook-url": webhook_url,
        "--quickbooks-webhook-url": quickbooks_webhook_url,
        "--rate-limit": rate_limit,
    }
    given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
    if rooms is not None:
        given += ["--rooms", *rooms]
    if plaid_webhook_urls:
        given += ["--plaid-webhook-url", *plaid_webhook_urls]
    process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        [sys.executable, "-m", "finance_os.sandbox", "--exit-with-parent", *given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the sandbox ended with status {process.wait()} before it was ready")
        ready = msgspec.json.decode(line)
        others, admin = ready.pop("others"), ready.pop("admin")
        yield Running(ready, others, admin, process)
    finally:
        process.stdin.close()
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
