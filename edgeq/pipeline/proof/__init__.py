"""Proof of import: the original compared with the float model that is quantized."""
