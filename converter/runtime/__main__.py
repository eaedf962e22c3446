"""``python -m converter.runtime DESCRIPTOR`` is the child of a :class:`converter.runtime.Worker`."""

from converter.runtime.child import main

main()
