"""Recovery: a small low-rank adapter that gives back part of what few bits took away."""
