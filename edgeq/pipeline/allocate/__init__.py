"""Allocation: each tensor's sensitivity, and the best number formats within a budget."""
