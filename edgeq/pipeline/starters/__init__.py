"""Small programs in other languages that run a bundle, and first verify it by its self-test."""
