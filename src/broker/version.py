"""The version of Broker, for the packages that import nothing above them."""

__version__ = "0.1.0"
