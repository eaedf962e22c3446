"""Where an output may go besides this machine's disk: stores with a URL, and the Hugging Face Hub."""

from __future__ import annotations

from converter.destinations.card import CardFacts, model_card
from converter.destinations.destination import Destination, destination
from converter.destinations.store import Progress

__all__ = ["CardFacts", "Destination", "Progress", "check_push", "destination", "model_card", "push_to_hub"]


def __getattr__(name: str) -> object:
    """What speaks with the Hub imports its client; a plain conversion does without."""
    if name in ("check_push", "push_to_hub"):
        from converter.destinations import hub

        return getattr(hub, name)
    raise AttributeError(name)
