"""A model opened once for all that is made of it: its checkpoint, family and vocabulary."""

from converter.model.open_model import OpenModel, open_model, output_name

__all__ = ["OpenModel", "open_model", "output_name"]
