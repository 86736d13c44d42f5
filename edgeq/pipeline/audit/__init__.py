"""Auditing third-party GGUF files."""
