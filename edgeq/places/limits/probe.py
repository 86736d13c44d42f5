"""Uses more memory than `edgeq.places.limits.run` allows a probe: a working limit ends it."""

if __name__ == "__main__":
    taken = b"x" * (128 << 20)
