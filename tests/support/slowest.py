"""The files whose tests take longest: where several processes share the work, these are started first."""

SLOWEST: list[str] = []
