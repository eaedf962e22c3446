"""The one exception family of the project.

Every refusal that a user can meet is a :class:`ConversionError` whose text is a single line: which file or
field, what was found, what was expected, and what to do next. The command line prints that line and exits with
``exit_code``; anything else that escapes is a defect of ours and shows a traceback.
"""

from __future__ import annotations


class ConversionError(Exception):
    """A job that cannot be done as asked. ``exit_code`` is what the command line exits with."""

    exit_code = 1


class CheckpointError(ConversionError):
    """The source's files are missing, damaged or contradict each other."""


class ArchitectureError(ConversionError):
    """The model's family, or one of its hyperparameters, cannot be represented in the target."""


class VocabularyError(ConversionError):
    """The tokenizer cannot be read, or what was written does not tokenize as the source does."""


class RecipeError(ConversionError):
    """A method or a tensor type that does not exist or does not fit."""


class OutputError(ConversionError):
    """The target cannot be written: it exists, is locked, or the disk is full."""


class VerificationError(ConversionError):
    """The written file does not behave like its source."""


class EnvironmentFailure(ConversionError):
    """A check could not be carried out, which says nothing about the file.

    A process that was killed by a signal, too little memory, a package that is missing or broken, a timeout. The file
    is kept as unverified.
    """

    exit_code = 3


class UsageError(ConversionError):
    """An option, a configuration key or a value that is wrong before any work starts."""

    exit_code = 2
