"""Learning from high-content screens past batch effects: data, learning, evaluation."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("hcs-utils")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"
