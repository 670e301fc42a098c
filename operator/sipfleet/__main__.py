"""`python -m sipfleet`."""

from sipfleet.cli import main

main()
