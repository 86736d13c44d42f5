"""Judging a GGUF file that somebody else made."""
