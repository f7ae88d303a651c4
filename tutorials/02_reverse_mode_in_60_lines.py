# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lesson 2: Reverse mode in 60 lines
#
# Lesson 1 measured derivatives: two evaluations of the function for each input. A network with a million weights would
# need two million evaluations for one gradient. The way out is old and short. Remember how the result was computed, then
# walk through the computation backwards *once*; all derivatives fall out together, exact to rounding. In this lesson we
# build an engine that does this, from nothing, and small enough to be read in one breath.
#
# **You will**
# - derive the adjoint recursion, which is one use of the chain rule, repeated;
# - turn it into fewer than sixty lines of Python, and watch it work step by step;
# - check every operation against differences;
# - differentiate a gradient, in this engine and in `tinymeta`'s.
#
# **You need** the chain rule in several variables, and lesson 1. Half an hour.

# %%
import itertools
import math

import numpy as np

import tinymeta as tm
from tinymeta.autodiff import view
from tinymeta.plots import save

# %% [markdown]
# ## 1. A computation is a list
#
# Take $s = \sin x \cdot (x\,y)$. A computer works it out one operation at a time, and each result gets a name:
#
# $$ v_0 = x, \qquad v_1 = y, \qquad v_2 = \sin v_0, \qquad v_3 = v_0\, v_1, \qquad v_4 = v_2\, v_3 = s. $$
#
# Call the entries *nodes*: $v_0$ and $v_1$ are *leaves*, and every other $v_k$ is made by an operation from nodes with
# smaller numbers. Remember that: **inputs are older than what is made of them.** So a node is a value, the
# operation that made it, the operation's inputs, and a number that says when it was made.

# %%
clock = itertools.count()


class Node:
    def __init__(self, value, operation=None, inputs=()):
        self.value, self.operation, self.inputs = float(value), operation, inputs
        self.index = next(clock)


# %% [markdown]
# ## 2. The adjoint recursion
#
# We want the derivative of $s = v_n$ with respect to the leaves. Here is the trick: *forget where the nodes came from.*
# Write $F_k(v_0, \dots, v_k)$ for $s$ as a function of the first nodes alone, each of them free to move, while the nodes
# after $v_k$ are computed as before. With all nodes free, $s$ is just the last of them:
#
# $$ F_n(v_0, \dots, v_n) = v_n, \qquad \frac{\partial F_n}{\partial v_n} = 1, \qquad \frac{\partial F_n}{\partial v_i} = 0
# \text{ for all others.} \tag{1} $$
#
# Now remember where the newest node came from, $v_k = \mathrm{op}_k(\text{its inputs})$, and *insert* it:
#
# $$ F_{k-1}(v_0, \dots, v_{k-1}) = F_k\big(v_0, \dots, v_{k-1}, \mathrm{op}_k(\text{its inputs})\big). $$
#
# This is the same number $s$, seen as a function of one node fewer. *Differentiate* both sides with respect to an older
# node $v_i$. On the right it stands in its own place, and perhaps once more inside $\mathrm{op}_k$. The *chain rule* gives
# one term for each:
#
# $$ \frac{\partial F_{k-1}}{\partial v_i} = \frac{\partial F_k}{\partial v_i} + \frac{\partial F_k}{\partial v_k}\,
# \frac{\partial\, \mathrm{op}_k}{\partial v_i}. \tag{2} $$
#
# Keep one number for each node, its *cotangent* $\bar v_i$, and let it hold the current $\partial F / \partial v_i$. Then
# (2) is an assignment. For $k = n, n - 1, \dots$, skipping leaves, and for each input $v_i$ of $v_k$,
#
# $$ \bar v_i \mathrel{+}= \bar v_k\, \frac{\partial\, \mathrm{op}_k}{\partial v_i}. \tag{3} $$
#
# (If $v_i$ is not an input of $v_k$, the last factor is 0 and nothing happens.) When only leaves are left, $F$ is $s$ as a
# function of the leaves, and the $\bar v_i$ are the gradient. That is all of reverse mode.
#
# The $+$ in (3) is the $+$ in (2): a node that is used twice collects two terms. And when the turn of
# $v_k$ comes, everything newer has been dealt with, so its cotangent is complete. *Newest first* is the only order that
# we need.
#
# ## 3. Operations and their rules
#
# For (3) an operation must know two things: its *forward*, which computes the value, and its *rule*, which turns the
# cotangent $\bar c$ of the result $c = \mathrm{op}(a, b)$ into one term for each input.

# %%
class Operation:
    def __init__(self, name, forward, rule):
        self.name, self.forward, self.rule = name, forward, rule

    def __call__(self, *inputs):
        nodes = [x if isinstance(x, Node) else Node(x) for x in inputs]
        return Node(self.forward(*(x.value for x in nodes)), self, nodes)


# %% [markdown]
# A rule is the differential, read off. For the product, $dc = b\,da + a\,db$, so $\partial c / \partial a = b$ and
# $\partial c / \partial b = a$. For the quotient $c = a / b$, $dc = \frac{1}{b}\,da - \frac{a}{b^2}\,db$, and
# $\frac{a}{b^2} = \frac{c}{b}$. Every rule gets $\bar c$, the result $c$, and the inputs:

# %%
add = Operation("add", lambda a, b: a + b, lambda c_bar, c, a, b: (c_bar, c_bar))
subtract = Operation("subtract", lambda a, b: a - b, lambda c_bar, c, a, b: (c_bar, -c_bar))
multiply = Operation("multiply", lambda a, b: a * b, lambda c_bar, c, a, b: (c_bar * b, c_bar * a))
divide = Operation("divide", lambda a, b: a / b, lambda c_bar, c, a, b: (c_bar / b, -c_bar * c / b))
negate = Operation("negate", lambda a: -a, lambda c_bar, c, a: (-c_bar,))

# %% [markdown]
# And some functions. The rules of $\exp$ and $\tanh$ use the result, which is there already:
# $d e^a = e^a\,da = c\,da$ and $d \tanh a = (1 - \tanh^2 a)\,da = (1 - c^2)\,da$. The rule of $\sin$ may mention `cos` before
# there is one: Python looks the name up when the rule runs.

# %%
sin = Operation("sin", math.sin, lambda c_bar, c, a: (c_bar * cos(a),))
cos = Operation("cos", math.cos, lambda c_bar, c, a: (-c_bar * sin(a),))
exp = Operation("exp", math.exp, lambda c_bar, c, a: (c_bar * c,))
log = Operation("log", math.log, lambda c_bar, c, a: (c_bar / a,))
tanh = Operation("tanh", math.tanh, lambda c_bar, c, a: (c_bar * (1 - c * c),))

# %% [markdown]
# Python's operators should make nodes as well. We hang them on the class:

# %%
Node.__add__ = Node.__radd__ = lambda self, other: add(self, other)
Node.__mul__ = Node.__rmul__ = lambda self, other: multiply(self, other)
Node.__sub__ = lambda self, other: subtract(self, other)
Node.__rsub__ = lambda self, other: subtract(other, self)
Node.__truediv__ = lambda self, other: divide(self, other)
Node.__rtruediv__ = lambda self, other: divide(other, self)
Node.__neg__ = lambda self: negate(self)

# %% [markdown]
# ## 4. The sweep
#
# First collect the nodes that $s$ was computed from, the newest first. A list of nodes to visit does it, no recursion; so
# a long computation can't overflow Python's stack.

# %%
def newest_first(output):
    found, waiting = set(), [output]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.inputs)
    return sorted(found, key=lambda node: -node.index)


# %% [markdown]
# Then the recursion. The line that makes `bars` is equation (1), the line with `+=` is equation (3). An input that occurs
# twice, as in $x\,x$, gets a term for each place, as the chain rule demands.

# %%
def sweep(output):
    nodes = newest_first(output)
    bars = {node: Node(0) for node in nodes} | {output: Node(1)}
    for c in nodes:
        if c.operation:
            for x, term in zip(c.inputs, c.operation.rule(bars[c], c, *c.inputs), strict=True):
                bars[x] += term
    return bars


# %% [markdown]
# That is the engine: `sweep(s)[x]` is the derivative of $s$ with respect to $x$. The cotangents are themselves nodes,
# although plain numbers would do; section 7 will show what this is good for.
#
# ## 5. Watch it work
#
# `tinymeta` keeps the same kind of graph, for arrays: `tm.tensor` makes a leaf, `tm.gradients` sweeps, `view` draws, with
# the names that we give to nodes. Here each name comes with its cotangent, in brackets.

# %%
def with_cotangents(output, names):
    labels = {}
    for name, node in names.items():
        [bar] = tm.gradients(output, [node])
        labels[f"{name} [bar {bar.value:.4g}]"] = node
    return labels


# %% [markdown]
# **Predict.** For $s = \sin x \cdot (x\,y)$ at
# $x = 2$, $y = 3$: which boxes will there be, how many arrows leave $x$, and what will each cotangent be? Work them out by
# hand from (3), leaving $\sin 2$ and $\cos 2$ as they stand, then run.

# %%
tx, ty = tm.tensor(2.0), tm.tensor(3.0)
t2, t3 = np.sin(tx), tx * ty
ts = t2 * t3
ax = view.draw(ts, names=with_cotangents(ts, {"x": tx, "y": ty, "v2": t2, "v3": t3, "v4": ts}))
ax.set_title("s = sin(x) · (x y): values flow along the arrows, cotangents [bar] against them", fontsize=9)
save(ax.figure, "02_graph")

# %% [markdown]
# See the diamond: two arrows leave $x$, and both ways lead to $s$. So $\bar x$ is a sum of two terms. (The `()` is a shape:
# these are scalars.) And here is the sweep of *our* engine, as a table:

# %%
x, y = Node(2), Node(3)
v2, v3 = sin(x), x * y
s = v2 * v3
bars, names = sweep(s), {x: "x", y: "y", v2: "v2", v3: "v3", s: "v4"}

# %%
print(f"{'node':<6}{'operation':<10}{'value':>8}{'cotangent':>11}   adds to")
for c in newest_first(s):
    terms = c.operation.rule(bars[c], c, *c.inputs) if c.operation else ()
    added = ", ".join(f"{names[a]}: {term.value:.4f}" for a, term in zip(c.inputs, terms, strict=True))
    print(f"{names[c]:<6}{c.operation.name if c.operation else 'leaf':<10}{c.value:>8.4f}{bars[c].value:>11.4f}   {added}")

# %% [markdown]
# Read it downwards, the newest node first. The two leaves are the gradient: $\bar y = x \sin x$, and $\bar x = y \sin x +
# x y \cos x$, one term from $v_3$ and one from $v_2$. `tinymeta` prints the same table with the rules in their own words, and
# with each cotangent *before* and *after* a term is added:

# %%
print(view.sweep_table(ts, [tx, ty], names={"x": tx, "y": ty}))

# %% [markdown]
# **Predict.** Start with $y = x$ and repeat $y \leftarrow y + y$ sixty times. The chain rule in its school form sums over
# all *paths* from $x$ to $y$, and each doubling doubles their number. How many nodes will our sweep visit?

# %%
x = y = Node(1)
for _ in range(60):
    y = y + y
print(f"paths {2**60:,}")
print(f"nodes {len(newest_first(y))}")
print(f"slope {sweep(y)[x].value:,.0f}")

# %% [markdown]
# The cotangents of different paths are added where the paths meet, and travel on as one number. So the sweep visits a node
# once, whatever the number of paths, and whatever the number of leaves. Each visit costs about as much as the operation
# itself did, so the *whole* gradient costs a small multiple of the function. Compare that with two evaluations for each
# input.
#
# ## 6. Check
#
# No rule goes unchecked. The judge is the central difference of lesson 1, with a step close to the best one; it uses
# only an operation's forward. We stay away from 0 and 1, where many a wrong rule happens to be right. That goes for
# $\bar c$ too: we check three times the result, so $\bar c$ is 3, and a rule that forgets it is caught.

# %%
def central_difference(f, x, h=1e-5):
    return (f(x + h) - f(x - h)) / (2 * h)


# %%
def check(operation, *point):
    leaves = [Node(x) for x in point]
    bars = sweep(3 * operation(*leaves))
    for leaf, e, name in zip(leaves, np.eye(len(point)), "ab", strict=False):
        rule = bars[leaf].value
        measured = central_difference(lambda t, e=e: 3 * operation.forward(*(point + t * e)), 0.0)
        print(f"{operation.name:<10}{name:<6}{rule:>19.14f}{measured:>19.14f}{rule - measured:>12.1e}")
        assert abs(rule - measured) < 1e-9


# %%
print(f"{'operation':<10}{'input':<6}{'by the rule':>19}{'measured':>19}{'difference':>12}")
for operation in (add, subtract, multiply, divide):
    check(operation, 0.7, 1.3)
for operation in (negate, sin, cos, exp, log, tanh):
    check(operation, 0.7)

# %% [markdown]
# ## 7. A gradient of a gradient
#
# MAML, the method this library is for, differentiates through a gradient step, so it needs the derivative of a derivative.
# We have paid for it already. The rules are written with our own operations, so on nodes they *make nodes*: the sweep
# doesn't only compute the gradient, it writes down how. The gradient is the end of a longer graph, and we may sweep again.
#
# Take $f(x) = x \sin x$. By *Leibniz's rule* $(x\,g)^{(k)} = x\,g^{(k)} + k\,g^{(k-1)}$. Here $g$ is the sine, and each
# derivative shifts it by a quarter of its period, $\tfrac{\pi}{2}$. So we know what must come out:
#
# $$ f^{(k)}(x) = x \sin\!\big(x + \tfrac{k\pi}{2}\big) + k \sin\!\big(x + \tfrac{(k-1)\pi}{2}\big). $$
#
# In the table $x = 2$, and each value is followed by its difference from the exact one.

# %%
def exact(k):
    return 2 * math.sin(2 + k * math.pi / 2) + k * math.sin(2 + (k - 1) * math.pi / 2)


# %%
x, f = Node(2), lambda x: x * np.sin(x)
derivatives = [x * sin(x)]
print(f"{'k':>2}{'exact':>20}{'this engine':>20}{'difference':>11}{'tinymeta':>20}{'difference':>11}")
for k in range(1, 7):
    derivatives.append(sweep(derivatives[-1])[x])
    f, ours = tm.grad(f), derivatives[k].value
    print(f"{k:>2}{exact(k):>20.15f}{ours:>20.15f}{exact(k) - ours:>11.0e}{f(2.0):>20.15f}{exact(k) - f(2.0):>11.0e}")

# %% [markdown]
# **Predict** how the number of nodes that the $k$-th derivative hangs on grows with $k$.

# %%
print(f"{'k':>2}{'nodes':>7}{'nodes / k^2':>13}{'sines and cosines':>19}")
for k in range(1, 7):
    found = newest_first(derivatives[k])
    waves = sum(node.operation in (sin, cos) for node in found)
    print(f"{k:>2}{len(found):>7}{len(found) / k**2:>13.2f}{waves:>19}")

# %% [markdown]
# Each sweep adds some nodes for each node that it visits, and one might fear that the graph grows by a constant factor. Here
# the factor shrinks, for the count grows only like $k^2$. The sweep turns each sine and cosine into its derivative, and the
# factor $x$ brings one more: $k + 1$ of them, each made of $x$ directly, each with a number of products and sums that is
# about proportional to $k$. Lesson 4 meets a function that feeds on its own result, and there the fear comes true.
#
# This is the bridge to the library. Open `tinymeta/autodiff/reverse.py`, and you will find this lesson: the newest node
# first, a rule, a sum. Its rules have the same form, `rule(c_bar, c, a, b)`. What it adds is arrays (lesson 3), NumPy's
# own functions, and thrift: nodes that don't lead to an input are skipped, and where nobody can ask for a second
# derivative the rules run on plain arrays and write nothing down.
#
# ## On your own
#
# Write your answer in the stub's cell, then call the check below it, for instance `check_2_1(make_power)`.
#
# **Exercise 2.1: add an operation.** Make the `Operation` $c = a^b$ for $a > 0$. Both inputs have a derivative: write
# $a^b = e^{b \log a}$ to find the one with respect to $b$. Which parts of the rule can be taken from $c$? (A rule made of
# nodes can be differentiated again: section 7.)

# %%
def make_power():
    """The operation c = a ** b, for a > 0."""
    raise NotImplementedError("exercise 2.1")


# %%
def check_2_1(make_power):
    check(make_power(), 0.7, 1.3)
    check(make_power(), 2.5, -1.5)
    x, slope = Node(2.5), 1 + math.log(2.5)  # of x log(x), so (x^x)' = x^x slope
    found, exact = sweep(sweep(make_power()(x, x))[x]).get(x, Node(0)).value, 2.5**2.5 * (slope**2 + 1 / 2.5)
    print(f"second derivative of x^x: by the rule {found:.12f}, exact {exact:.12f}")
    assert abs(found - exact) < 1e-9, "is the rule made of nodes, all of it?"


# %% tags=["solution"]
# dc = b a^(b - 1) da + a^b log(a) db. Both terms contain c: b a^(b - 1) = b c / a, and a^b log(a) = c log(a).
def make_power():
    return Operation("power", lambda a, b: a**b, lambda c_bar, c, a, b: (c_bar * b * c / a, c_bar * c * log(a)))


check_2_1(make_power)

# %% [markdown]
# **Exercise 2.2: find what is missing.** This sweep is shorter than ours and looks cleverer. On some functions it is
# right. On others it isn't, and no error tells you so.

# %%
def clever_sweep(output):
    nodes = newest_first(output)
    bars = {node: Node(0) for node in nodes} | {output: Node(1)}
    for c in nodes:
        if c.operation:
            bars.update(zip(c.inputs, c.operation.rule(bars[c], c, *c.inputs), strict=True))
    return bars


# %%
functions = {"sin(exp(x))": lambda x: sin(exp(x)), "3 - 2 / x": lambda x: 3 - 2 / x,
             "x * x": lambda x: x * x, "x + tanh(x)": lambda x: x + tanh(x),
             "exp(y + y), y=sin(x)": lambda x: (lambda y: exp(y + y))(sin(x))}
print(f"{'function':<20}{'clever sweep':>16}{'differences':>16}")
for name, f in functions.items():
    x = Node(2)
    differences = central_difference(lambda t, f=f: f(Node(t)).value, 2.0)
    print(f"{name:<20}{clever_sweep(f(x))[x].value:>16.8f}{differences:>16.8f}")

# %% [markdown]
# What do the functions on which it fails have in common? Where is the `+=` of equation (3)? Repair the sweep.

# %%
def repaired_sweep(output):
    """The clever sweep, put right."""
    raise NotImplementedError("exercise 2.2")


# %%
def check_2_2(sweep):
    for name, f in functions.items():
        x = Node(2)
        found, measured = sweep(f(x))[x].value, central_difference(lambda t, f=f: f(Node(t)).value, 2.0)
        print(f"{name:<20}{found:>16.8f}{measured:>16.8f}")
        assert abs(found - measured) < 1e-8


# %% tags=["solution"]
# It fails where a node is used twice: there two terms meet, and only a sum keeps both.
def repaired_sweep(output):
    nodes = newest_first(output)
    bars = {node: Node(0) for node in nodes} | {output: Node(1)}
    for c in nodes:
        terms = c.operation.rule(bars[c], c, *c.inputs) if c.operation else ()
        for x, term in zip(c.inputs, terms, strict=True):
            bars[x] = bars[x] + term  # `update` put the new term in the place of the old ones
    return bars


check_2_2(repaired_sweep)

# %% [markdown]
# ## Symbols
#
# | on paper | in code | what it is | shape |
# |---|---|---|---|
# | $s$ | `output`, `s` | the result that is differentiated | scalar |
# | $v_k$ | a `Node` | the $k$-th entry of the computation | scalar |
# | $\mathrm{op}_k$ | an `Operation` | what made $v_k$ from older nodes | |
# | $c = \mathrm{op}(a, b)$ | `c`, `a`, `b` | result and inputs, in a rule | scalar |
# | $F_k$ | | $s$ as a function of $v_0, \dots, v_k$ alone | $k + 1$ scalars to one |
# | $\bar v_k$, $\bar c$ | `bars[c]`, `c_bar` | cotangent: $\partial F / \partial v_k$, complete when its turn comes | scalar |
#
# **Next:** the same sweep on arrays, where a rule has to know about shapes.
