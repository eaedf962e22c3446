"""Many models by many methods from one file: read and checked whole, expanded, run unattended, gone on with."""

from converter.batch.expansion import Job, expand
from converter.batch.lock import BatchLock
from converter.batch.running import Outcome, run
from converter.batch.schema import Batch, read_batch

__all__ = ["Batch", "BatchLock", "Job", "Outcome", "expand", "read_batch", "run"]
