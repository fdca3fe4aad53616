"""mer-store: extract each clip once, keep every layer, train from the cache."""

__version__ = "0.1.0"
