"""Proof of import: the float model that everything is quantized from, and the original, compared."""
