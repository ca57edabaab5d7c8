"""``python -m dcpt``: the same commands as ``dcpt``."""

from dcpt.cli import main

main()
