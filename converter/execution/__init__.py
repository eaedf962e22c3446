"""Running a plan: tiles, threads and the journal that makes a killed run go on where it stopped."""

from converter.execution.executor import Job, available_threads, execute
from converter.execution.journal import Journal
from converter.execution.unfinished import Unfinished

__all__ = ["Job", "Journal", "Unfinished", "available_threads", "execute"]
