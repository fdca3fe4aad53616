"""Stores with a planted signal: features of no media, made so that the best reachable score is known."""
