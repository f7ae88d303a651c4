"""The engine: a graph, one rule for each operation, and the reverse sweep.

Read it in this order: `tensor` (a value that remembers where it came from), `operations` (each with its rule),
`reverse` (the sweep), `blocks` (whole functions as one node), `derivatives` (grad and its relatives), `tree` (nested
parameters), `check` (does it hold?), `view` (pictures).

`autodiff.tensor` is the function, which hides the module of the same name: `from tinymeta.autodiff.tensor import ...` finds that.
"""

from . import operations, tree
from .blocks import checkpoint, custom_vjp, vmap
from .check import GradCheck, check_grad
from .derivatives import grad, gradients, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .operations.functions import log_softmax, logsumexp, relu, sigmoid, softmax, softplus, stop_gradient
from .operations.indexing import set_at
from .tensor import Tensor, tensor
from .tree import ravel

__all__ = [
    "GradCheck", "Tensor", "check_grad", "checkpoint", "custom_vjp", "grad", "gradients", "hessian", "hvp", "jacobian", "jvp",
    "log_softmax", "logsumexp", "operations", "ravel", "relu", "set_at", "sigmoid", "softmax", "softplus", "stop_gradient", "tensor",
    "tree", "value_and_grad", "vjp", "vmap",
]  # fmt: skip
