"""``python -m converter`` is the ``convert`` command."""

from converter.cli import main

main()
