"""Capture: what a model server is asked and answers, as events; and the service that takes them in."""

from inferwatch_logger.middleware import CaptureMiddleware

__all__ = ["CaptureMiddleware"]
