"""GGUF files: key-values, headers read and written, the parts of a split model, joined again.

Layout: ``docs/gguf.md`` of ggml. Nothing here knows families, plans or how weights are computed.
"""
