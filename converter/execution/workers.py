"""Threads that take items one after the other, while the calling thread looks on and may be interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")

#: Seconds between two looks at what the threads have done: woken for each item, the caller would hold them up.
PROGRESS_SECONDS = 0.05


def run_workers(
    items: Iterable[Item],
    work: Callable[[int, Item], bool],
    *,
    threads: int,
    look: Callable[[], None],
) -> None:
    """Do something with each item, in any order. An exception in any thread ends all of them and is raised.

    Args:
        items: taken one at a time.
        work: called with the number of the thread and an item; False ends all threads before the next item.
        threads: how many, at least 1.
        look: called again and again in the calling thread, the last time after all threads have ended.
    """
    pending, lock, stop = iter(items), threading.Lock(), threading.Event()

    def take(number: int) -> None:
        try:
            while not stop.is_set():
                with lock:
                    item = next(pending, lock)
                if item is lock:
                    return
                if not work(number, item):  # type: ignore[arg-type]
                    stop.set()
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(threads, "tile") as pool:
        workers = [pool.submit(take, number) for number in range(threads)]
        try:
            running: Collection[Future[None]] = workers
            while running:
                running = wait(running, PROGRESS_SECONDS).not_done
                look()
        finally:
            stop.set()
    for worker in workers:
        worker.result()
