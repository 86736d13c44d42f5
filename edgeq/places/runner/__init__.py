"""edgeq-runner: the measuring passes in a small program, for devices without Python.

Its source is in the folder `source`: C++17 that needs no library to build.
"""
