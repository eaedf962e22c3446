"""LoRA adapters as PEFT saves them: merged into a checkpoint while it is read, or written as a GGUF of their own."""

from converter.adapters.merge import adapt

__all__ = ["adapt"]
