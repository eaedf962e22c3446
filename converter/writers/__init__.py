"""Containers: how a plan's tensors lie in a file."""
