"""Own worker processes."""

from __future__ import annotations

import concurrent.futures as cf

from vamo_bbo.run.executors.futures import FuturesExecutor
from vamo_bbo.run.objective import Objective

__all__ = ["ProcessExecutor"]


class ProcessExecutor(FuturesExecutor):
    """Evaluate in ``count`` worker processes that this run starts and ends."""

    def __init__(self, objective: Objective, count: int, *, eval_timeout: float | None = None) -> None:
        super().__init__(objective, cf.ProcessPoolExecutor(count))

    def close(self) -> None:
        """End the workers."""
        super().close()
        self.pool.shutdown(wait=False, cancel_futures=True)
