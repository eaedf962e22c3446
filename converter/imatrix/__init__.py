"""Importance matrices: how much each column of a weight matrix matters, measured by running the model on text."""

from converter.imatrix.files import read_imatrix, write_imatrix
from converter.imatrix.matrix import Entry, ImatrixError, ImportanceMatrix, combine
from converter.imatrix.measurement import Progress, measure

__all__ = [
    "Entry",
    "ImatrixError",
    "ImportanceMatrix",
    "Progress",
    "combine",
    "measure",
    "read_imatrix",
    "write_imatrix",
]
