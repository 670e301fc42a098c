"""The exceptions of the plugin."""


class PluginError(Exception):
    """What was asked cannot be done; the text says what was given, what is there, and what to do."""
