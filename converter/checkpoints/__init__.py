"""Where weights lie, and how to read rows of one tensor."""

from converter.checkpoints.directory import Checkpoint, open_checkpoint
from converter.checkpoints.quantized import Mxfp4Tensor
from converter.checkpoints.tensor import SourceTensor
from converter.sources.source_file import FileIdentity

__all__ = ["Checkpoint", "FileIdentity", "Mxfp4Tensor", "SourceTensor", "open_checkpoint"]
