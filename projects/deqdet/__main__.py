"""``python -m deqdet``: the command ``deqdet``."""

from deqdet_command import main

main()
