"""A budget instead of bits: what each tensor costs in quality, and the best choice within it."""
