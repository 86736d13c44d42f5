"""Recovery: a small low-rank adapter that restores part of the quality lost to few bits."""
