"""A strategy for each ONNX operator that is translated for Apple: operands and attributes."""

from tests.support.apple_cases import elementwise, images, products, shapes
from tests.support.apple_cases.base import MAKERS, Case, Numbers, model_of

__all__ = ["MAKERS", "Case", "Numbers", "elementwise", "images", "model_of", "products", "shapes"]
