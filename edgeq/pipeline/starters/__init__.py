"""Small programs in other languages that run a bundle, and prove it by its self-test first."""
