"""Many models by many methods from one file: read and checked whole, expanded, run unattended, gone on with."""

from converter.batch.expansion import Job, expand
from converter.batch.running import Outcome, perform
from converter.batch.schema import Batch, read_batch

__all__ = ["Batch", "Job", "Outcome", "expand", "perform", "read_batch"]
