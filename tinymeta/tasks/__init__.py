"""Where tasks come from. A task has a support set, to adapt on, and a query set, to judge the result by."""

from . import characters, few_shot, hyperparameters, omniglot, quadratics, sinusoids
from .few_shot import Characters, Data, Task

__all__ = ["Characters", "Data", "Task", "characters", "few_shot", "hyperparameters", "omniglot", "quadratics", "sinusoids"]
