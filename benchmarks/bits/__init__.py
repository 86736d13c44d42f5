"""Our files against other tools' at the same bytes: what `benchmarks/better_bits.py` is made of."""
