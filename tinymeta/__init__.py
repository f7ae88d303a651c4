"""tinymeta: the calculus of meta-learning, to read, to step through and to trust.

    autodiff           the engine: a graph, one rule for each operation, and the reverse sweep
    machine            the same graph as a program
    bilevel            the two-level problem, and what every meta-gradient comes with
    maml               the gradient through the unrolled inner loop
    implicit           the gradient by the implicit function theorem
    learned_optimizer  an LSTM that learns to optimise; `baselines` to measure it by, `evolution` to train it without derivatives
    comparison         all of them on one problem, and the truth beside them
    nn optim tasks     networks, optimizers, and where tasks come from
    train              to minimise over random tasks: stopped and resumed (`checkpoints`), on one machine or many (`distribution`)
"""

from . import baselines, evolution, implicit, learned_optimizer, maml, nn, optim, plots, tasks
from .autodiff import operations, tree, view
from .autodiff.blocks import checkpoint, custom_vjp, vmap
from .autodiff.check import GradCheck, check_grad
from .autodiff.derivatives import grad, gradients, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .autodiff.operations.functions import log_softmax, logsumexp, relu, sigmoid, softmax, softplus, stop_gradient
from .autodiff.operations.indexing import set_at
from .autodiff.tensor import Tensor, tensor
from .autodiff.tree import ravel
from .bilevel import Bilevel, Info, MetaGradient
from .checkpoints import CheckpointError, load_checkpoint
from .comparison import Comparison, compare
from .distribution import ExecutorError
from .machine import Program, debug, jit, trace
from .train import Diverged, fit

__all__ = [
    "Bilevel", "CheckpointError", "Comparison", "Diverged", "ExecutorError", "GradCheck", "Info", "MetaGradient", "Program", "Tensor",
    "baselines", "check_grad", "checkpoint", "compare", "custom_vjp", "debug", "evolution", "fit", "grad", "gradients", "hessian", "hvp",
    "implicit", "jacobian", "jit", "jvp", "learned_optimizer", "load_checkpoint", "log_softmax", "logsumexp", "maml", "nn",
    "operations", "optim", "plots", "ravel", "relu", "set_at", "sigmoid", "softmax", "softplus", "stop_gradient", "tasks", "tensor",
    "trace", "tree", "value_and_grad", "view", "vjp", "vmap",
]  # fmt: skip
__version__ = "0.1.0"
