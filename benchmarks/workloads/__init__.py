"""What is computed, by each engine: the same arithmetic on the same arrays."""

from .common import Workload, as_kept_by, cast
from .curvature import hessian
from .images import omniglot
from .quadratics import learned_optimizer, lstm_of_tinymeta
from .sinusoids import initial_parameters, maml, maml_of_tinymeta

__all__ = ["Workload", "as_kept_by", "cast", "hessian", "initial_parameters", "learned_optimizer", "lstm_of_tinymeta", "maml",
           "maml_of_tinymeta", "omniglot"]  # fmt: skip
