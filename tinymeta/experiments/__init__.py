"""What the papers did, to be done again: each experiment's network, tasks and numbers."""

from . import few_shot, methods, sinusoid

__all__ = ["few_shot", "methods", "sinusoid"]
