"""The engine: a graph, one rule for each operation, and the reverse sweep.

Read it in this order: `tensor` (a value that remembers where it came from), `operations` (each with its rule),
`reverse` (the sweep), `blocks` (whole functions as one node), `derivatives` (grad and its relatives), `tree` (nested
parameters), `check` (does it hold?), `view` (pictures).
"""

from .autodiff import operations, tree
from .autodiff.blocks import checkpoint, custom_vjp, vmap
from .autodiff.check import GradCheck, check_grad
from .autodiff.derivatives import grad, gradients, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .autodiff.operations.functions import log_softmax, logsumexp, relu, sigmoid, softmax, softplus, stop_gradient
from .autodiff.operations.indexing import set_at
from .autodiff.tensor import Tensor, tensor
from .autodiff.tree import ravel
from .machine import Program, trace

__all__ = [
    "GradCheck", "Program", "Tensor", "check_grad", "checkpoint", "custom_vjp", "grad", "gradients", "hessian", "hvp", "jacobian", "jvp", "log_softmax",
    "logsumexp", "operations", "ravel", "relu", "set_at", "sigmoid", "softmax", "softplus", "stop_gradient", "tensor",
    "trace", "tree", "value_and_grad", "vjp", "vmap",
]  # fmt: skip
__version__ = "0.1.0"
