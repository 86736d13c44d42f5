"""The user's own model, run by the library that it was made with.

Everything that edgeq reads, exports or quantizes is compared with the answers found here.
"""
