"""The user's own model, run by its own library.

Everything that edgeq reads, exports or quantizes is compared with its answers.
"""
