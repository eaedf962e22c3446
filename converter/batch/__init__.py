"""Many models with many methods from one file: checked as a whole, expanded, run unattended, resumed."""
