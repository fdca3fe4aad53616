"""Extractors: media in, hidden states per clip out. They know no store, no dask, no labels."""
