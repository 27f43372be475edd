"""The files that are checked in are what would be made now, and the commands that make and check them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from finance_os import artifacts
from finance_os.commands import artifacts as command
from finance_os.local import stack
from finance_os.local.stack import checkout


def test_every_artifact_is_current() -> None:
    assert artifacts.stale(checkout()) == [], "run `finance-os artifacts write`"


def test_nothing_else_lies_among_them() -> None:
    """A schema or table that is not made any more does not stay behind."""
    made = set(artifacts.artifacts())
    for folder in ("docs/schemas", "sql/bigquery"):
        found = {str(path.relative_to(checkout())) for path in (checkout() / folder).iterdir()}
        assert found == {path for path in made if path.startswith(folder + "/")}


def test_pages_lead_to_files_that_are_there() -> None:
    import re

    for page in ("docs/api.md", "docs/metrics.md"):
        place = checkout() / page
        for target in re.findall(r"\]\(([^)#]+)\)", place.read_text()):
            assert target.startswith("http") or (place.parent / target).exists(), f"{page} leads to {target}"


def test_what_is_stale_is_told_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "checkout", lambda: tmp_path)
    run = CliRunner()
    assert run.invoke(command.app, ["check"]).exit_code == 1
    assert "wrote docs/api.md" in run.invoke(command.app, ["write"]).output
    assert run.invoke(command.app, ["check"]).exit_code == 0
    assert "Nothing to do" in run.invoke(command.app, ["write"]).output
    page = tmp_path / "docs/schemas/link.schema.json"
    page.write_text(page.read_text().replace("created", "made"))
    assert artifacts.stale(tmp_path) == ["docs/schemas/link.schema.json"]
    told = run.invoke(command.app, ["check"])
    assert (told.exit_code, "docs/schemas/link.schema.json" in told.output) == (1, True)
