"""Where tasks come from. A task has a support set, to adapt on, and a query set, to judge the result by."""

from . import quadratics, sinusoids
from .sinusoids import Data, Task

__all__ = ["Data", "Task", "quadratics", "sinusoids"]
