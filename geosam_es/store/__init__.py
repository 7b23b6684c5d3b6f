"""The embedding store: the contract between the offline tools and the plugin. Only this package knows its format."""

from .layout import store_path_for
from .metadata import StoreMetadata
from .reader import StoreReader
from .writer import StoreWriter, set_crs

__all__ = ["StoreMetadata", "StoreReader", "StoreWriter", "set_crs", "store_path_for"]
