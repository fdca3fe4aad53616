"""Clip lists: what there is to extract, read from CSV files, folders and the organisers' layouts."""
