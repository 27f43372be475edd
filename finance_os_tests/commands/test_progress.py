"""What a command shows while it writes and waits: a bar and a countdown in a terminal, lines elsewhere."""

import io
import time
from collections.abc import Callable
from threading import Thread
from types import SimpleNamespace

import pytest
from rich.console import Console

from finance_os.commands import progress
from finance_os.commands.progress import Shown, shown
from finance_os.stripe_qbo.holding import Ended


def output(monkeypatch: pytest.MonkeyPatch, act: Callable[[Shown], None], total: int, *, is_terminal: bool) -> str:
    """What is printed of a run in which `act` happens."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=is_terminal, width=200, legacy_windows=False)
    monkeypatch.setattr(progress, "console", console)
    with shown("acme → 91", total) as run:
        act(run)
        run.progress.refresh()
    return written.getvalue()


def test_without_a_terminal_lines_tell_how_far_it_is_and_for_how_long_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(run: Shown) -> None:
        for ended in (Ended.APPLIED, Ended.WAITING, Ended.BUSY, Ended.FOUND):
            run.tried(None, ended)
        run.waits(117.6)
        run.waits(0)
        run.tried(None, Ended.FAILED)

    said = output(monkeypatch, act, 3, is_terminal=False)
    assert said.splitlines() == [
        "waiting up to 118 s for what may still be carried out: its answer was lost",
        "3 of 3",
    ]


def test_a_long_run_is_told_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(run: Shown) -> None:
        for _ in range(120):
            run.tried(None, Ended.APPLIED)

    assert output(monkeypatch, act, 120, is_terminal=False).splitlines() == ["50 of 120", "100 of 120", "120 of 120"]


def test_in_a_terminal_the_wait_is_counted_down_beside_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def act(run: Shown) -> None:
        run.tried(None, Ended.APPLIED)
        thread = Thread(target=run.waits, args=(120,))  # as it is told: by the thread that waits
        thread.start()
        thread.join()
        assert run.wait_left() == "waiting up to 120 s more for what may still be carried out: its answer was lost"
        clock[0] += 50
        assert "waiting up to 70 s more" in run.wait_left()
        run.progress.refresh()
        clock[0] += 71
        assert run.wait_left() == ""
        run.waits(30)
        run.waits(0)
        assert run.wait_left() == ""

    said = output(monkeypatch, act, 2, is_terminal=True)
    for text in ("acme → 91", "1/2", "waiting up to 70 s more"):
        assert text in said


def test_a_run_waits_as_always_and_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from finance_os.stripe_qbo.waiting import AT_MOST

    def act(run: Shown) -> None:
        waiting = run.waiting()
        assert (waiting.at_most, waiting.clock, waiting.sleep) == (AT_MOST, time.monotonic, time.sleep)
        looks = waiting.looks(0.01)
        next(looks)
        looks.close()

    said = output(monkeypatch, act, 0, is_terminal=False)
    assert said.startswith("waiting up to 0 s for")
