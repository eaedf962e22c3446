"""What was made, from what, how and with what result: a SQLite file beside the outputs.

:class:`Catalogue` is the file, :class:`Bookkeeping` its use during a conversion, which a catalogue never spoils.
"""

from converter.catalogue.bookkeeping import Bookkeeping
from converter.catalogue.catalogue import Catalogue
from converter.catalogue.database import CatalogueError, default_catalogue
from converter.catalogue.digests import FileDigest, Hashing, input_files, output_files
from converter.catalogue.record import Facts, Record
from converter.catalogue.request_key import RequestKey, Source, key_of

__all__ = [
    "Bookkeeping",
    "Catalogue",
    "CatalogueError",
    "Facts",
    "FileDigest",
    "Hashing",
    "Record",
    "RequestKey",
    "Source",
    "default_catalogue",
    "input_files",
    "key_of",
    "output_files",
]
