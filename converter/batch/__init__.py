"""Many models by many methods from one file: read and checked whole, expanded, run unattended, gone on with."""
