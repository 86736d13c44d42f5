"""What Core ML and Core AI have in common: how weights are stored, and how models become programs.

Programs are written with the operators of Apple's MIL; each format's writer expresses them in its
own files.
"""
