"""Transcripts to hidden states of a language model."""
