"""Work that waits is done together: in order, each answered with its own, and none taken down by another."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from finance_os.web import together
from finance_os.web.together import Together, TooManyWait


class Everybodys(Exception):
    pass


def is_everybodys(error: Exception) -> bool:
    return isinstance(error, Everybodys)


class Work:
    """Doubles numbers, and remembers its batches; fails for those named."""

    def __init__(self, seconds: float = 0.0, bad: tuple[int, ...] = (), fails: type[Exception] = ValueError) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self._seconds, self._bad, self._fails = seconds, bad, fails
        self._lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    def __call__(self, items: Sequence[int]) -> list[int]:
        with self._lock:
            self.batches.append(list(items))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self._seconds)
        with self._lock:
            self.at_once -= 1
        if bad := [item for item in items if item in self._bad]:
            raise self._fails(str(bad))
        return [item * 2 for item in items]


def done(work: Work, numbers: Sequence[int], *, lanes: int = 1) -> list[int | BaseException]:
    async def run() -> list[int | BaseException]:
        both = Together(work, is_everybodys, lanes=lanes)
        return await asyncio.gather(*(both.do(number) for number in numbers), return_exceptions=True)

    return asyncio.run(run())


def test_those_who_wait_are_done_together_and_in_order() -> None:
    work = Work(0.05)
    assert done(work, range(250)) == [number * 2 for number in range(250)]
    assert [item for batch in work.batches for item in batch] == list(range(250))
    assert max(map(len, work.batches)) == together.MOST_AT_ONCE
    assert len(work.batches) <= 4


def test_one_that_fails_takes_no_other_with_it() -> None:
    work = Work(0.02, bad=(3, 7))
    found = done(work, range(10))
    assert [number for number, each in enumerate(found) if isinstance(each, ValueError)] == [3, 7]
    assert [each for each in found if not isinstance(each, ValueError)] == [0, 2, 4, 8, 10, 12, 16, 18]


def test_where_it_is_everybodys_trouble_nobody_waits_for_it_again() -> None:
    work = Work(0.02, bad=(0,), fails=Everybodys)
    assert all(isinstance(each, Everybodys) for each in done(work, range(500)))
    assert sum(map(len, work.batches)) <= together.MOST_AT_ONCE + 1


def test_so_many_lanes_and_no_more() -> None:
    work = Work(0.02)
    done(work, range(1_000), lanes=3)
    assert work.most_at_once == 3
    alone = Work(0.02)
    done(alone, range(300))
    assert alone.most_at_once == 1


def test_heavy_ones_are_done_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "WEIGHT_AT_ONCE", 10)
    work = Work(0.01)

    async def run() -> list[int]:
        both = Together(work, is_everybodys, lambda item: item)
        return await asyncio.gather(*(both.do(number) for number in (4, 4, 4, 40, 4)))

    assert asyncio.run(run()) == [8, 8, 8, 80, 8]
    assert all(sum(batch) <= 10 or len(batch) == 1 for batch in work.batches)


def test_there_is_room_for_so_many_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST_WAITING", 5)
    found = done(Work(0.05), range(20))
    assert sum(isinstance(each, TooManyWait) for each in found) == 15
    monkeypatch.setattr(together, "MOST_WAITING", 5_000)
    monkeypatch.setattr(together, "WEIGHT_WAITING", 10)

    async def run() -> list[int | BaseException]:
        both = Together(Work(0.05), is_everybodys, lambda item: item)
        first = await asyncio.gather(*(both.do(number) for number in (6, 6)), return_exceptions=True)
        return [*first, await both.do(10)]

    found = asyncio.run(run())
    assert (found[0], type(found[1]), found[2]) == (12, TooManyWait, 20), "and what was done leaves its room"


def test_nobody_is_forgotten_who_comes_when_the_last_one_is_done() -> None:
    work = Work()

    async def run() -> int:
        both = Together(work, is_everybodys)

        async def come(number: int) -> int:
            found = 0
            for step in range(40):
                found += await asyncio.wait_for(both.do(number * 40 + step), 5) // 2
            return found

        return sum(await asyncio.gather(*(come(number) for number in range(20))))

    assert asyncio.run(run()) == sum(range(800))


def test_who_has_gone_has_it_done_all_the_same() -> None:
    work = Work(0.05)

    async def run() -> int:
        both = Together(work, is_everybodys)
        gone = asyncio.create_task(both.do(1))
        await asyncio.sleep(0.01)
        gone.cancel()
        return await both.do(2)

    assert asyncio.run(run()) == 4
    assert work.batches == [[1], [2]]
