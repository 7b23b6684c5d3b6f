"""``python -m encoder_tools.cli``, where the script is not on the path."""

from . import main

main()
