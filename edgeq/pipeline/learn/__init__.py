"""Learned rounding: codes and scales of one block of layers at a time, trained in torch."""
