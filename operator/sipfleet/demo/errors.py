"""The exceptions of `sipfleet.demo`."""


class DemoError(Exception):
    """A scenario could not be played: says what was awaited and what stood instead."""
