"""Work of requests that wait at the same time is done together: one transaction for all of them instead of one each.

A request that comes alone does not wait for company. While batches are being done, the next one gathers.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_AT_ONCE = 100
WEIGHT_AT_ONCE = 8 * 1024 * 1024
MOST_WAITING = 5_000
WEIGHT_WAITING = 64 * 1024 * 1024
"""Items and bytes that are done together, and that may wait: what comes beyond that is to come again."""


class TooManyWait(Exception):
    """There is no room to wait."""


class Together(Generic[Item, Result]):
    """Does `work` over what waits, in the order in which it came; in threads of its own, `lanes` batches at a time.

    `work` gives as many results as there are items. Where it fails for several, each is tried by itself, so that one
    does not take others with it; but where the failure is `everybodys`, all that wait fail alike. `weigh` says how
    many bytes an item holds.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        everybodys: Callable[[Exception], bool],
        weigh: Callable[[Item], int] = lambda _: 0,
        lanes: int = 1,
    ) -> None:
        self._work = work
        self._everybodys = everybodys
        self._weigh = weigh
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._weight = 0
        self._lanes = lanes
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task from being collected
        self._threads = CapacityLimiter(lanes)

    async def do(self, item: Item) -> Result:
        """What `work` makes of `item`; raises what it raises, or `TooManyWait`.

        Who does not wait any more has it done all the same.
        """
        weight = self._weigh(item)
        if len(self._waiting) >= MOST_WAITING or self._weight + weight > WEIGHT_WAITING:
            raise TooManyWait
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._weight += weight
        if self._running < self._lanes:
            self._running += 1
            lane = asyncio.create_task(self._run())
            self._tasks.add(lane)
            lane.add_done_callback(self._tasks.discard)
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._batch()
                await self._do([item for item, _ in batch], [future for _, future in batch])
        finally:
            # At the very moment at which nothing waits: who comes then starts another one.
            self._running -= 1

    def _take(self) -> tuple[Item, asyncio.Future[Result]]:
        item, future = self._waiting.popleft()
        self._weight -= self._weigh(item)
        return item, future

    def _batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch = [self._take()]
        weight = self._weigh(batch[0][0])
        while self._waiting and len(batch) < MOST_AT_ONCE:
            weight += self._weigh(self._waiting[0][0])
            if weight > WEIGHT_AT_ONCE:
                break
            batch.append(self._take())
        return batch

    async def _do(self, items: Sequence[Item], futures: Sequence[asyncio.Future[Result]]) -> None:
        try:
            results = await to_thread.run_sync(self._work, items, limiter=self._threads)
        except Exception as error:
            if self._everybodys(error):
                rest = [self._take()[1] for _ in range(len(self._waiting))]
                _fail([*futures, *rest], error)
            elif len(items) > 1:
                for item, future in zip(items, futures, strict=True):
                    await self._do([item], [future])
            else:
                _fail(futures, error)
            return
        for future, result in zip(futures, results, strict=True):
            if not future.done():  # who asked may have gone
                future.set_result(result)


def _fail(futures: Sequence[asyncio.Future[Result]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
