"""ERNIE 4.5 and PaddleOCR-VL, which is built on it."""
