"""Learning from high-content screens past batch effects: data, learning, evaluation."""

import warnings
from importlib.metadata import PackageNotFoundError, version

# timm and umap look for notebook widgets that nothing here needs
warnings.filterwarnings("ignore", "IProgress not found")

try:
    __version__ = version("hcs-utils")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"
