"""Distillation: parameters of a network learn to give a full model's answers."""
