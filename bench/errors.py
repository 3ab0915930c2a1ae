"""The benchmark's error."""


class BenchError(Exception):
    """The benchmark cannot go on; the text says why."""
