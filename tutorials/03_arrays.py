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
# # Lesson 3: Arrays
#
# A model is made of matrices, not of numbers. We could cut each matrix into its elements and leave the rest to lesson 2, but
# a rule for the whole array is shorter, faster, and prettier.
#
# **You will**
# - derive the rules of the matrix product, the sum, broadcasting and softmax, all by one recipe of three steps;
# - see what broadcasting does to a cotangent;
# - meet a popular check that lets a rule through which returns nothing but zeros.
#
# **You need** lesson 2: cotangents, and the reverse sweep that hands them on. From lesson 1, the complex step: for an
# analytic $f$, the imaginary part of $f(x + ih)$ divided by a tiny $h$ is the derivative, and nothing cancels. Half an hour.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.plots import save

rng = np.random.default_rng(3)

# %% [markdown]
# ## 1. One recipe
#
# In lesson 2 each node held one number. Its cotangent $\bar c = \partial s / \partial c$ told how the final scalar $s$
# answers when $c$ moves: $ds = \bar c\, dc$. Now a node holds an array $C$. Each element has its own cotangent
# $\bar C_{ij} = \partial s / \partial C_{ij}$, and by the chain rule their contributions add up:
#
# $$ ds = \sum_{ij} \bar C_{ij}\, dC_{ij} = \langle \bar C, dC \rangle . $$
#
# The bracket is the *pairing* of a cotangent with a change: multiply element by element, then add everything. It tells you
# the shape at once: $\bar C$ is shaped like $C$, one weight for each element.
#
# Suppose that $C$ was computed from $A$. The same $ds$ can be told in terms of $A$, and that is what defines $\bar A$:
#
# $$ \langle \bar C, dC \rangle = \langle \bar A, dA \rangle \qquad \text{for every change } dA. $$
#
# So here is the recipe. **Write** $dC$, which is linear in $dA$. **Pair** it with $\bar C$. **Move** everything except $dA$
# to the other side of the bracket. What stands there is $\bar A$, and the line of code is the line of algebra.
# If there are several inputs, $dC$ has one term for each, and each term is moved on its own.
#
# The definition is also a test. It must hold for *every* $dA$ and *every* $\bar C$, so draw both at random, get $dC$ by the
# complex step, which knows nothing of rules, and compare the two sides. (So the function must be analytic in every operation.)


# %%
def report(name, rule, measured):
    """One row of a table: by the rule, by the complex step, and what lies between."""
    shown = round(float(rule), 15) + 0.0, round(float(measured), 15) + 0.0  # the 0.0 turns a -0 into a 0
    print(f"{name:<26} by the rule {shown[0]:>19.15f}   measured {shown[1]:>19.15f}   difference {rule - measured:>8.1e}")


# %%
def check_pairing(name, f, rule, *inputs):
    """Compare <x_bar, dx>, by the rule, with <c_bar, dc>, by the complex step, for random changes and cotangents."""
    changes = [rng.standard_normal(x.shape) for x in inputs]
    dc = np.imag(f(*[x + 1e-30j * dx for x, dx in zip(inputs, changes, strict=True)])) / 1e-30
    c_bar = rng.standard_normal(dc.shape)
    x_bars = rule(c_bar, f(*inputs), *inputs)
    report(name, sum(np.sum(x_bar * dx) for x_bar, dx in zip(x_bars, changes, strict=True)), np.sum(c_bar * dc))


# %% [markdown]
# ## 2. The matrix product
#
# Let $C = AB$. **Write.** Expand the product of the changed factors,
# $(A + dA)(B + dB) = AB + dA\,B + A\,dB + dA\,dB$, and drop the last term, which is of second order:
#
# $$ dC = dA\,B + A\,dB . $$
#
# **Pair**, and split the bracket, which is linear in its second place:
#
# $$ \langle \bar C, dC \rangle = \langle \bar C, dA\,B \rangle + \langle \bar C, A\,dB \rangle . $$
#
# **Move.** Write the first bracket with indices, then collect what multiplies $dA_{ik}$ (sums may be taken in any order):
#
# $$ \sum_{ij} \bar C_{ij} \sum_k dA_{ik} B_{kj} = \sum_{ik} \Big( \sum_j \bar C_{ij} B_{kj} \Big) dA_{ik}
#    = \langle \bar C B^\top, dA \rangle . $$
#
# The second bracket in the same way, collecting what multiplies $dB_{kj}$:
#
# $$ \sum_{ij} \bar C_{ij} \sum_k A_{ik}\, dB_{kj} = \sum_{kj} \Big( \sum_i A_{ik} \bar C_{ij} \Big) dB_{kj}
#    = \langle A^\top \bar C, dB \rangle . $$
#
# In words: *a factor crosses the bracket transposed, and stays on its side* (the right factor on the right, the left one on
# the left). The rule takes its arguments in the order that every rule in tinymeta has: the cotangent of the result, the
# result, the inputs.


# %%
def matmul_rule(c_bar, c, a, b):
    return c_bar @ b.T, a.T @ c_bar


A, B = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
check_pairing("matrix product", np.matmul, matmul_rule, A, B)
check_pairing("A not transposed", np.matmul, lambda c_bar, c, a, b: (c_bar @ b.T, a @ c_bar), A[:, :2], B[:2, :2])

# %% [markdown]
# The first row agrees to 15 digits. The second row is a rule with a transposition missing, on square matrices. Had the
# shapes been different, NumPy would have refused the product; square matrices hide the mistake from NumPy, but not from the
# pairing.
#
# ## 3. The sum, and its mirror image
#
# Let $c_j = \sum_i a_{ij}$, the sum over the first axis. **Write**, **pair**, and **move** take one line, because a sum of
# changes is the change of the sum:
#
# $$ \langle \bar c, dc \rangle = \sum_j \bar c_j \sum_i da_{ij} = \sum_{ij} \bar c_j\, da_{ij}
#    \qquad\Longrightarrow\qquad \bar a_{ij} = \bar c_j . $$
#
# Each element that went into a sum gets the sum's cotangent: **the adjoint of a sum repeats.**
#
# Read it from right to left. Broadcasting repeats: in $c = a + b$, where $a$ has shape (3, 1) and $b$ has shape (4,), NumPy
# uses $\hat b_{ij} = b_j$ and $\hat a_{ij} = a_{i0}$. For $b$:
#
# $$ \langle \bar c, d\hat b \rangle = \sum_{ij} \bar c_{ij}\, db_j = \sum_j \Big( \sum_i \bar c_{ij} \Big) db_j
#    \qquad\Longrightarrow\qquad \bar b_j = \sum_i \bar c_{ij} . $$
#
# An element that was used three times answers for all three uses: **the adjoint of repeating sums.** This is the `+=` of
# lesson 2, with NumPy's copies as the users. Which axes were repeated can be read off the shapes: those that the
# small array lacks, on the left, and those where it has length 1.


# %%
def unbroadcast(c_bar, shape):
    """Sum a cotangent over the axes along which an array of this shape was repeated."""
    lacking = c_bar.ndim - len(shape)
    repeated = tuple(i for i in range(c_bar.ndim) if i < lacking or shape[i - lacking] == 1)
    return np.sum(c_bar, axis=repeated).reshape(shape)


# %%
def add_rule(c_bar, c, a, b):
    return unbroadcast(c_bar, a.shape), unbroadcast(c_bar, b.shape)


column, row = rng.standard_normal((3, 1)), rng.standard_normal(4)
check_pairing("sum over axis 0", lambda a: np.sum(a, axis=0), lambda c_bar, c, a: (np.broadcast_to(c_bar, a.shape),), A)
check_pairing("broadcast addition", np.add, add_rule, column, row)

# %% [markdown]
# tinymeta takes this sum in one place for all operations (`fit` in `tinymeta/autodiff/reverse.py`), so none of its rules
# says a word about broadcasting.
#
# **Predict:** the cotangent of the result is a board of 3 by 4 numbers. For $b$ of shape (4,), do you add along
# each row or down each column? And for $a$ of shape (3, 1)? How many numbers come out each time? Write it down, then run.


# %%
def board(ax, array, small, title):
    """An array as a board of numbers; squares of one colour belong to one element of the small array."""
    corners = [np.arange(n + 1) - 0.5 for n in np.atleast_2d(array).shape[::-1]]
    ax.pcolormesh(*corners, np.atleast_2d(np.broadcast_to(small, array.shape)), cmap="Set3", vmin=10, vmax=120, ec="white", lw=3)
    for (i, j), number in np.ndenumerate(np.atleast_2d(array)):
        ax.text(j, i, number, ha="center", va="center", fontsize=14)
    ax.set(title=f"{title}, {array.shape}", xlabel="column j", ylabel="row i", xticks=range(4), yticks=range(3))
    ax.axis((-0.5, 3.5, 2.5, -0.5))


# %%
figure, axes = plt.subplots(2, 4, figsize=(13, 6), layout="constrained")
c_bar = np.arange(1, 13).reshape(3, 4)
for line, name, small in zip(axes, "ba", (np.array([10, 20, 30, 40]), np.array([[10], [20], [30]])), strict=True):
    arrays = small, np.broadcast_to(small, c_bar.shape), c_bar, unbroadcast(c_bar, small.shape)
    titles = f"forward: {name}", f"{name} repeated", "backward: cotangent of c", f"summed for {name}"
    for ax, array, title in zip(line, arrays, titles, strict=True):
        board(ax, array, small, title)
save(figure, "03_shapes")

# %% [markdown]
# See the colours: going forward, each element of the small array spreads its colour over the squares that use it. Going
# backward, the numbers on squares of one colour are added. Nothing else happens.
#
# ## 4. Softmax
#
# $$ p_i = \frac{e^{x_i}}{\sum_j e^{x_j}} $$
#
# **Write.** Take the logarithm first, which turns the quotient into a difference: $\log p_i = x_i - \log \sum_j e^{x_j}$. Then
# differentiate both sides. The derivative of $\log u$ is $du / u$, used on the left and on the right:
#
# $$ \frac{dp_i}{p_i} = dx_i - \frac{\sum_j e^{x_j} dx_j}{\sum_k e^{x_k}} = dx_i - \sum_j p_j\, dx_j . $$
#
# Multiply by $p_i$. **Pair** with $\bar p$:
#
# $$ \langle \bar p, dp \rangle = \sum_i \bar p_i p_i\, dx_i - \Big( \sum_i \bar p_i p_i \Big) \sum_j p_j\, dx_j . $$
#
# **Move.** The sum in parentheses is a number, $\langle \bar p, p \rangle$. Rename $j$ to $i$ in the last sum and
# collect what multiplies $dx_i$:
#
# $$ \bar x_i = p_i \big( \bar p_i - \langle \bar p, p \rangle \big) . $$
#
# If $x$ has several rows, each is a softmax of its own and that number is taken row by row.


# %%
def softmax(x):
    return np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)


def softmax_rule(p_bar, p, x):
    return (p * (p_bar - np.sum(p_bar * p, axis=-1, keepdims=True)),)


# %%
x = rng.standard_normal(5)
check_pairing("softmax of a vector", softmax, softmax_rule, x)
check_pairing("softmax of three rows", softmax, softmax_rule, rng.standard_normal((3, 5)))

# %% [markdown]
# ## 5. Check: can the check fail?
#
# To test a rule one needs a cotangent, and the obvious one is all ones: call `np.sum` on the output and differentiate that.
# Here are three wrong rules beside the right one. `tm.custom_vjp(forward, rule)` makes an operation of each, and
# `tm.vjp(operation, x)` returns its value at $x$ and its *pullback*: the function that takes a cotangent of the result and
# returns a tuple, with one cotangent for each input.
#
# **Predict:** which of the wrong ones does the all-ones cotangent catch? What about a random one?

# %%
rules = {
    "right": softmax_rule,
    "returns zeros": lambda p_bar, p, x: (0 * p_bar,),
    "mean, not weighted mean": lambda p_bar, p, x: (p * (p_bar - np.mean(p_bar, axis=-1, keepdims=True)),),
    "second term forgotten": lambda p_bar, p, x: (p * p_bar,),
}
operations = {name: tm.custom_vjp(softmax, rule) for name, rule in rules.items()}

# %%
dx = rng.standard_normal(5)
dp = np.imag(softmax(x + 1e-30j * dx)) / 1e-30
for title, p_bar in {"all ones": np.ones(5), "random": rng.standard_normal(5)}.items():
    print(f"the cotangent is {title}")
    for name, operation in operations.items():
        value, pullback = tm.vjp(operation, x)
        report(name, np.sum(pullback(p_bar)[0] * dx), np.sum(p_bar * dp))

# %% [markdown]
# With ones, two wrong rules pass. The reason is in the forward function: the outputs of softmax add up to 1, whatever $x$
# is, so the derivative of their sum *is* zero, and zeros are the right answer to that one question. Ask with a random
# cotangent and all three are caught. `tm.check_grad` draws random cotangents by itself, but it can't help if the sum is
# already inside the function that you give it:

# %%
zeros = operations["returns zeros"]
print("the sum of the outputs:", tm.check_grad(lambda x: np.sum(zeros(x)), x, order=1).ok)
print("the outputs themselves:", tm.check_grad(zeros, x, order=1).ok)

# %% [markdown]
# How lucky must a random cotangent be? Each rule is linear in its cotangent, so its error is a matrix $E$ times $\bar p$,
# and a wrong rule passes exactly where $E \bar p = 0$: in the null space of $E$. The columns of $E$ are the errors at the
# unit cotangents. **Predict:** of five dimensions, how many has the null space for each rule?


# %%
def matrix(rule):
    return np.stack([rule(p_bar, softmax(x), x)[0] for p_bar in np.eye(5)], axis=1)


for name, rule in rules.items():
    E = matrix(rule) - matrix(softmax_rule)
    blind = len(E) - np.linalg.matrix_rank(E)
    print(f"{name:<26} passes in {blind} of {len(E)} dimensions; at all ones the error is {np.linalg.norm(E @ np.ones(5)):.1e}")

# %% [markdown]
# The errors of the last two rules are $p$ times one number, $\langle p - \tfrac15, \bar p \rangle$ and
# $\langle p, \bar p \rangle$. Where that number is 0, they pass.
#
# A wrong rule may pass in all dimensions but one, and still a random cotangent finds it: a plane has no volume in space, so the
# probability of landing in it is zero. Ones, zeros and unit vectors are not random; they are where special cases live.
#
# ## On your own
#
# Each stub raises until you write it. Write your answer in the stub's cell, then call the check with it, for instance
# `check_3_1(logsumexp_rule)`. It prints the pairing, and asks `tm.check_grad` for the second order as well.
#
# **Exercise 3.1: logsumexp.** Derive the rule of $c = \log \sum_i e^{x_i}$ over the last axis. An old friend appears in it.
# (Mind the shapes: $x$ may have any number of axes, and $c$ has one fewer. This forward overflows for large $x$;
# `tm.logsumexp` doesn't.)


# %%
def logsumexp(x):
    return np.log(np.sum(np.exp(x), axis=-1))


def logsumexp_rule(c_bar, c, x):
    """The cotangent of x, in a tuple of one element."""
    raise NotImplementedError("exercise 3.1")


# %%
def check_rule(forward, rule, *inputs):
    assert type(rule(forward(*inputs), forward(*inputs), *inputs)) is tuple, "a rule returns a tuple, one cotangent for each input"
    check_pairing(forward.__name__, forward, rule, *inputs)
    check = tm.check_grad(tm.custom_vjp(forward, rule), *inputs)
    assert check, check


def check_3_1(rule):
    for shape in ((5,), (3, 5), (2, 3, 5)):
        check_rule(logsumexp, rule, rng.standard_normal(shape))


# %% tags=["solution"]
# dc = sum_i e^{x_i} dx_i / sum_j e^{x_j} = sum_i p_i dx_i, with the softmax p_i = e^{x_i - c}
def logsumexp_rule(c_bar, c, x):
    return (c_bar[..., None] * np.exp(x - c[..., None]),)


check_3_1(logsumexp_rule)

# %% [markdown]
# **Exercise 3.2: solving.** Let $X = A^{-1} B$ for matrices $A$ and $B$, computed by `np.linalg.solve(A, B)`. Start from
# $A X = B$ and differentiate both sides with the product rule. Solve for $dX$, then pair and move. Your rule should call
# `solve` once and form no inverse.


# %%
def solve_rule(x_bar, x, a, b):
    """The cotangents of a and b, in this order."""
    raise NotImplementedError("exercise 3.2")


# %%
def check_3_2(rule):
    check_rule(np.linalg.solve, rule, rng.standard_normal((3, 3)), rng.standard_normal((3, 2)))


# %% tags=["solution"]
# dA X + A dX = dB, so dX = A^{-1} (dB - dA X). Each factor crosses transposed: B_bar = A^{-T} X_bar, A_bar = -B_bar X^T
def solve_rule(x_bar, x, a, b):
    b_bar = np.linalg.solve(a.T, x_bar)
    return -b_bar @ x.T, b_bar


check_3_2(solve_rule)

# %% [markdown]
# **Exercise 3.3: normalising.** $z = (x - m) / \sigma$, where $m$ is the mean of the $n$ elements of $x$ and
# $\sigma^2 = \tfrac1n \sum_i (x_i - m)^2$. Show that $d\sigma = \tfrac1n \langle z, dx \rangle$, then derive the rule. Which
# two cotangents would let a rule of zeros pass here? (The forward writes $\sigma$ out. `np.std` takes the *absolute* square of a
# complex number, which isn't analytic, and the complex step would call your correct rule wrong. In the rule you may use it.)


# %%
def normalise(x):
    sigma = np.sqrt(np.mean((x - np.mean(x)) ** 2))
    return (x - np.mean(x)) / sigma


def normalise_rule(z_bar, z, x):
    """The cotangent of x, in a tuple of one element."""
    raise NotImplementedError("exercise 3.3")


# %%
def check_3_3(rule):
    check_rule(normalise, rule, x)


# %% tags=["solution"]
# 2 sigma dsigma = 2/n <x - m, dx - dm>. The x_i - m add up to 0, so dm drops out: dsigma = 1/n <z, dx>.
# dz = (dx - dm - z dsigma) / sigma. Pair and move; it vanishes for z_bar = 1 and for z_bar = z, as sum z and sum z^2 are fixed
def normalise_rule(z_bar, z, x):
    return ((z_bar - np.mean(z_bar) - z * np.mean(z_bar * z)) / np.std(x),)


check_3_3(normalise_rule)

# %% [markdown]
# ## Symbols
#
# The paper is Giles, *Collected matrix derivative results for forward and reverse mode algorithmic differentiation* (2008).
#
# | paper | here | variable | shape |
# |---|---|---|---|
# | $\mathrm{Tr}(\bar C^\top dC)$ | $\langle \bar C, dC \rangle$ | `np.sum(c_bar * dc)` | () |
# | $C = AB$ | $C = AB$ | `c`, `a`, `b` | (n, m), (n, k), (k, m) |
# | $\bar A$, $\bar B$ | $\bar A$, $\bar B$ | `a_bar`, `b_bar` | as $A$, as $B$ |
# | | $\hat b$ | `np.broadcast_to(b, shape)` | as $C$ |
# | | $p$, $\bar p$ | `p`, `p_bar` | (n,) or (rows, n) |
# | | $E$ | `E` | (n, n) |
#
# **Next:** a gradient is a computation as well. What happens if we sweep through it again?
