"""Every differentiable operation: its forward, its rule, and the derivation above the rule.

Importing this package fills the table that `Tensor` looks NumPy's functions up in. Read the files in this
order: `elementwise`, `special`, `reductions`, `shapes`, `indexing`, `products`, `linear_algebra`, `functions`.
"""

from . import elementwise, functions, indexing, linear_algebra, products, reductions, shapes, special

__all__ = ["elementwise", "functions", "indexing", "linear_algebra", "products", "reductions", "shapes", "special"]
