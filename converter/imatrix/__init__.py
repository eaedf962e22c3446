"""Importance matrices: how much each column of a weight matrix matters, measured by running the model on text."""

from converter.imatrix.collection import Progress, collect
from converter.imatrix.files import read_imatrix
from converter.imatrix.matrix import Entry, ImatrixError, ImportanceMatrix, combine

__all__ = ["Entry", "ImatrixError", "ImportanceMatrix", "Progress", "collect", "combine", "read_imatrix"]
