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
# # Lesson 13: Making it fast
#
# A meta-gradient is hundreds of operations on small arrays, and Python spends most of its time *between* them. So we write the
# operations down once, shorten the list, and hand it to a machine that knows no Python.
#
# **You will**
# - derive when an operation costs more to call than to compute, and measure it;
# - trace a function, and run its program with an interpreter of five lines;
# - write two passes that shorten a program, and one that lays out its memory;
# - derive the roofline, and find MAML under it;
# - find where the machine loses.
#
# **You need** lesson 2 (the graph), lesson 6 (MAML). Half an hour. Times depend on your computer: none is asserted, and none stands
# in the text. They are those of the fastest of 20 rounds, for whoever else uses the computer only adds, and on one core until
# section 7. With `TINYMETA_MACHINE=numpy` "the machine" is NumPy too, and slower.

# %%
import os
import timeit

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "TINYMETA_THREADS": "1"}  # one core; NumPy reads it when it is loaded

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.autodiff.blocks import run
from tinymeta.machine import passes
from tinymeta.machine.code import code_of
from tinymeta.plots import save
from tinymeta.tasks import sinusoids

# %% [markdown]
# ## 1. What an operation costs
#
# Each of the $n^2$ elements of a product of $n \times n$ matrices is a sum of $n$ products: $n$ multiplications and about $n$
# additions. A core that makes $P$ operations a second needs $2n^3 / P$ seconds. But first the operation must be looked up, the shapes
# checked, memory found. Call that $c$, the same for all $n$, and *add*:
#
# $$ t(n) = c + \frac{2 n^3}{P} . \tag{1} $$
#
# Let $n_*$ be the size at which both parts are *equal*; *solve* for it:
#
# $$ c = \frac{2 n_*^3}{P} \quad\Longrightarrow\quad n_* = \Big( \frac{c P}{2} \Big)^{1/3} . \tag{2} $$
#
# *Put* this $c$ into (1), and *divide* the useful part $2n^3/P$ by the whole:
#
# $$ \text{share of } P = \frac{n^3}{n^3 + n_*^3} . \tag{3} $$
#
# At $n_*$ half of the time is lost, and at $n_* / 2$ eight ninths.
#
# To measure $c$, time a long and a short chain of products and *subtract*: what the call of a whole chain costs, $C$, cancels.


# %%
def seconds(f, *args):
    """The time of a call, in the fastest of 20 short rounds."""
    f(*args)  # a jitted function is traced here
    timer = timeit.Timer(lambda: f(*args))
    number = max(1, int(0.001 / min(timer.repeat(3, 1))))
    return min(timer.repeat(20, number)) / number


# %%
def chain(A, X, length):  # each length is a program of its own for the machine: an int isn't an input
    for _ in range(length):
        X = A @ X
    return X


sizes = 2 ** np.arange(1, 9)
executors = {"NumPy": chain, "Tensors": lambda A, X, length: chain(tm.tensor(A), X, length), "machine": tm.jit(chain)}


# %%
def costs(f, n):
    """Seconds for one more product, and for the call of the whole chain."""
    A = np.linalg.qr(np.random.default_rng(n).standard_normal((n, n)))[0]  # orthogonal: the chain neither grows nor vanishes
    short, long = (10, 110) if n < 100 else (1, 5)
    first, second = seconds(f, A, A, short), seconds(f, A, A, long)
    each = max((second - first) / (long - short), 1e-9)
    return each, max(first - short * each, 0.0)


measured = {name: np.array([costs(f, n) for n in sizes]) for name, f in executors.items()}

# %% [markdown]
# **Predict.** Speed against $n$, on two logarithmic axes. By (3), which slope has a curve far below $n_*$, and where does it end?
# "Tensors" are NumPy's products with a node of the graph made for each; "machine" is the same chain as a program. Which has the
# smaller $n_*$?

# %%
figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
for (name, found), color in zip(measured.items(), ("C0", "C7", "C3"), strict=True):
    c, P = found[0, 0], 2 * sizes[-1] ** 3 / found[-1, 0]
    ax.loglog(sizes, 2 * sizes**3 / (c + 2 * sizes**3 / P) / 1e9, color + "-", linewidth=1)
    ax.loglog(sizes, 2 * sizes**3 / found[:, 0] / 1e9, color + "o", label=f"{name}: {1e6 * c:.2g} µs, n* = {(c * P / 2) ** (1 / 3):.0f}")
ax.set(title="Measured, and by (1)", xlabel="n", ylabel="$10^9$ operations a second", xticks=sizes, xticklabels=sizes)
ax.legend(title="c and n*")
save(figure, "13_overhead")

# %% [markdown]
# See that each curve climbs with slope 3 and bends near its $n_*$. (A line knows two points, the first and the last; a kernel may be
# better or worse in between.) The networks of our lessons have layers of 8 to 64: on the slope or near the bend. There a smaller $c$
# helps more than a faster processor.
#
# ## 2. The graph is data
#
# On each call Python finds out anew what to do next, though it is always the same. But a graph says what is to be done, without
# Python. `tm.trace` runs a function once and keeps the list; the values are forgotten, the shapes stay. The gradient of a small
# network's loss:


# %%
def loss(theta, data):
    return tm.nn.mean_squared_error(tm.nn.mlp(theta, data.x, np.tanh), data.y)


rng = np.random.default_rng(13)
small, tasks = tm.nn.initialize_mlp(rng, (1, 8, 8, 1)), sinusoids.draw(rng, 25)
task = tm.tree.map(lambda x: x[0], tasks)
program = tm.trace(tm.value_and_grad(loss), small, task.support)
print(program)

# %% [markdown]
# A line reads: slot, operation, what it does to which slots, type, place in memory, and the line of source that it comes from.
# `product` is $D + s\,A B$ in one go. To run a list takes a loop. The machine is such a loop, compiled once for *all* programs: $c$
# becomes a look at a table, and $C$ is paid once a call. The price: what depends on a *value*, such as `if x > 0`, can't be written
# down for all values, and a trace refuses it.


# %%
def interpret(code, inputs):
    slots = {**code.constants, **dict(zip(code.inputs, inputs, strict=True))}
    for i in code.instructions:
        slots[i.slot] = i.operation.forward(*(slots[k] for k in i.operands), **i.params)
    return [slots[k] for k in code.outputs]


outputs = interpret(program.code, tm.tree.flatten((small, task.support))[0])
print("loss by our interpreter, and by the engine:", float(outputs[0]), float(loss(small, task.support)))

# %% [markdown]
# For $m$ instructions, $F$ arithmetic operations in all, and equal $P$, Python needs $m c + F/P$ and the machine $C + m c' + F/P$.
# *Subtract*: the machine wins if
#
# $$ m\,(c - c') > C . \tag{4} $$

# %%
(c, _), (c_tensors, _), (c_machine, C) = (measured[name][0] for name in ("NumPy", "Tensors", "machine"))
print(f"C = {1e6 * C:.1f} µs, c' = {1e6 * c_machine:.3f} µs")
for name, cost in (("NumPy", c), ("Tensors", c_tensors)):
    print(f"{name}: c = {1e6 * cost:.2f} µs; the machine wins", f"if m > {C / (cost - c_machine):.1f}" if cost > c_machine else "never")

# %% [markdown]
# ## 3. Check: the machine is NumPy
#
# MAML's meta-gradient: 25 tasks, a network 1-40-40-1, one inner step. "Exact" is the engine, in NumPy, one operation at a time;
# "approximate" is the program. Each row pairs the gradient of one array with a random vector. **Predict** the order of magnitude of
# the differences: are they 0?

# %%
network = tm.nn.initialize_mlp(rng, (1, 40, 40, 1))
problem = tm.Bilevel(lambda phi, theta, task: loss(phi, task.support), lambda phi, theta, task: loss(phi, task.query))
objective = lambda steps: tm.maml.objective(problem, steps=steps, lr=0.01)
mean_loss = lambda theta, tasks: np.mean(tm.vmap(objective(1), (None, 0))(theta, tasks))
eager = tm.value_and_grad(mean_loss)
maml = tm.trace(eager, network, tasks)

# %%
print(f"{'gradient of':<14}{'exact':>18}{'approximate':>18}{'difference':>12}")
pairs = list(zip(tm.tree.flatten(eager(network, tasks)[1])[0], tm.tree.flatten(maml(network, tasks)[1])[0], strict=True))
for name, (exact, approximate) in zip([f"{k}, layer {l}" for l in (1, 2, 3) for k in network[0]], pairs, strict=True):
    v = rng.standard_normal(exact.shape)
    print(f"{name:<14}{np.sum(exact * v):>18.14f}{np.sum(approximate * v):>18.14f}{np.sum((exact - approximate) * v):>12.1e}")
    assert np.max(np.abs(exact - approximate)) <= 1e-12 * np.linalg.norm(exact)
took = {"engine": seconds(eager, network, tasks), "program": seconds(maml, network, tasks)}
print(f"time: engine {1e3 * took['engine']:.2f} ms, program {1e3 * took['program']:.3f} ms")

# %% [markdown]
# Equal to rounding errors, not to the bit: the passes below change the order of sums. (`maml.check(network, tasks)` compares each
# instruction alone, and `maml.profile(network, tasks)` times it. Beside JAX and others: `benchmarks/RESULTS.md`.)
#
# ## 4. Passes
#
# A sweep writes down whatever the chain rule says, also what is already there. A *pass* is a function from one list to another with
# the same results. Two of them:
#
# *Common subexpressions.* *Equal arguments give equal results*: of two instructions with the same operation, operands and parameters
# the second is superfluous, and its readers may read the first. That may make two readers equal. In order from the top, *by induction*,
# one walk finds them all.
#
# *Dead code.* An output is needed. If a slot is needed, so are its operands. *By induction* from the bottom, one walk backwards
# finds what is needed; the rest goes.


# %%
def common_subexpressions(code):
    seen, kept = {}, []
    same = {k: seen.setdefault(repr(x), k) for k, x in code.constants.items() if np.ndim(x) == 0}  # numbers, each once
    for i in code.instructions:
        i = i._replace(operands=tuple(same.get(k, k) for k in i.operands))
        same[i.slot] = seen.setdefault((i.operation, i.operands, repr(i.params)), i.slot)
        kept += [i] if same[i.slot] == i.slot else []
    return code._replace(instructions=tuple(kept), outputs=tuple(same.get(k, k) for k in code.outputs))


# %%
def dead_code(code):
    needed, kept = set(code.outputs), []
    for i in reversed(code.instructions):
        if i.slot in needed:
            kept.insert(0, i)
            needed.update(i.operands)
    return code._replace(instructions=tuple(kept))


# %% [markdown]
# We try them on one task's meta-gradient, as it was written. **Predict:** how many percent are superfluous? And if only the
# gradient of the last bias is asked for?

# %%
# `run` calls a function on Tensors and keeps their graph, `code_of` makes a list of it, and no pass has seen it.
leaves, structure = tm.tree.flatten((network, task))
one = tm.value_and_grad(objective(1))
written = code_of(run(lambda *given: one(*tm.tree.unflatten(structure, given)), list(map(tm.tensor, leaves))))
once = common_subexpressions(written)
last = once._replace(outputs=once.outputs[-1:])  # the gradient of the last layer's b
listings = {"as written": written, "each once": once, "without dead code": dead_code(once), "one output": dead_code(last)}
for name, code in (listings | {"all passes": passes.optimize(written), "all, one output": passes.optimize(last)}).items():
    print(f"{name:<18}{len(code.instructions):>5} instructions")

# %%
print("what the library's passes save, in order:", ", ".join(f"{name} {n}" for name, n in passes.savings(written) if n))
results = {name: interpret(code, leaves) for name, code in listings.items()}
for name in ("each once", "without dead code"):
    assert all(map(np.array_equal, results["as written"], results[name]))
assert np.array_equal(results["one output"][0], results["as written"][-1])
assert len(passes.optimize(written).instructions) < len(dead_code(once).instructions) < len(written.instructions)

# %% [markdown]
# Each bit is as it was. Nothing is dead at first, for the list has only what outputs depend on; ask for less, and much dies. The
# library's other passes *fuse*: a product, its transposed factor, its scale and what is added to it become one line, and what they
# leave behind is dead. A negative number is a pass that lengthens the list for another's sake, or to save arithmetic.
#
# ## 5. Memory
#
# Slot $s$ has $b_s$ bytes and *lives* from the line that makes it to the last that reads it. What lives at the same time needs
# *disjoint* places, and nothing can need more than a place for each:
#
# $$ \max_t \sum_{s \text{ alive at } t} b_s \;\le\; \text{arena} \;\le\; \sum_s b_s . \tag{5} $$
#
# To come near the left side: walk through the list, and give each result the lowest place at which it overlaps nothing alive.
# Places begin at multiples of 64 bytes, a line of the cache. Outputs lie elsewhere, with the caller.


# %%
def lifetimes(code):
    """For each slot that needs a place: its bytes, the line that makes it, the last that reads it."""
    born = {i.slot: t for t, i in enumerate(code.instructions)}
    dies = born | {k: t for t, i in enumerate(code.instructions) for k in i.operands if k in born}
    size = {i.slot: -(-8 * int(np.prod(i.type.shape)) // 64) * 64 for i in code.instructions}
    return {k: (size[k], born[k], dies[k]) for k in born if k not in code.outputs}


# %%
def lay_out(lives):
    places = {}
    for slot, (size, born, _) in lives.items():
        alive = [(places[k], places[k] + lives[k][0]) for k in places if lives[k][2] >= born]
        fits = lambda start, size=size, alive=alive: all(start + size <= low or high <= start for low, high in alive)
        places[slot] = min(start for start in (0, *(high for _, high in alive)) if fits(start))
    return places


lives, lines = lifetimes(program.code), str(program).splitlines()[-len(program) - 1 : -1]

# %% [markdown]
# **Predict.** The figure shows the small network's program, and beside each line what is in memory while it runs: a rectangle is as
# wide as its slot and as high as its life. Which live longest? Then, for MAML: how do the two sides of (5) grow with the inner steps $K$?

# %%
figure, ax = plt.subplots(figsize=(11, 5.6), layout="constrained")
for (k, (size, born, dies)), start in zip(lives.items(), lay_out(lives).values(), strict=True):
    ax.barh(born, size, 1 + dies - born, start, align="edge", color=f"C{born % 10}", alpha=0.6, edgecolor="k")
    ax.text(start + size / 2, born + 0.5, f"%{k}" if size > 64 else "", ha="center", va="center", fontsize=8)
ax.set_yticks(np.arange(len(lines)) + 0.5, [line.split("float64")[0].strip() for line in lines], family="monospace", ha="left")
ax.set(title="The listing, and its arena", xlabel="byte", xlim=(0, None), ylim=(len(lines), 0), xticks=range(0, 2561, 640))
ax.tick_params(axis="y", length=0, pad=255)
save(figure, "13_arena")

# %%
print(f"{'K':>3}{'instructions':>14}{'all at once':>13}{'alive at most':>15}{'our layout':>12}{'arena_bytes':>13}   (kB)")
for K in (1, 2, 5, 10):
    unrolled = tm.trace(tm.value_and_grad(objective(K)), network, task)
    lives = lifetimes(unrolled.code)
    places, alive = lay_out(lives), [sum(b for b, born, dies in lives.values() if born <= t <= dies) for t in range(len(unrolled))]
    most = (sum(b for b, _, _ in lives.values()), max(alive), max(places[k] + lives[k][0] for k in places), unrolled.arena_bytes)
    print(f"{K:>3}{len(unrolled):>14}{most[0] / 1e3:>13.1f}{most[1] / 1e3:>15.1f}{most[2] / 1e3:>12.1f}{most[3] / 1e3:>13.1f}")
    assert most[1] <= most[2] <= most[0]

# %% [markdown]
# See that what lives longest was made on the way forward and is read on the way back, as in lesson 7. So even the best layout grows
# with $K$, but it is a fraction of the sum. What a layout needs beyond the left side of (5) are holes too small for the next result.
# The library takes the *smallest* hole that is large enough, ours the lowest: neither is always better. (0 in the last column: there
# is no machine.)
#
# ## 6. The roofline
#
# A calculation of $F$ operations moves $Q$ bytes from and to memory, at no more than $P$ operations and $B$ bytes a second. *Both
# bounds* hold, $t \ge F/P$ and $t \ge Q/B$. *Divide* $F$ by $t$:
#
# $$ \boxed{\; \frac{F}{t} \;\le\; \min(P,\; I B), \qquad I = \frac{F}{Q} \;} \tag{6} $$
#
# $I$ is the *arithmetic intensity*. *Count*, with 8 bytes a number. A product of $n \times n$ matrices reads two and writes one; an
# elementwise product of $N$ numbers as well:
#
# $$ I = \frac{2n^3}{3 \cdot 8 n^2} = \frac{n}{12}, \qquad\qquad I = \frac{N}{3 \cdot 8 N} = \frac{1}{24} . $$
#
# The one grows with $n$. The other stays: it helps only to do more with a number while it is there, as fusing does.
#
# **Predict.** Sketch the roof. Where do you put the elementwise product, matrices of 16 and of 512, the meta-gradient by the engine,
# and by its program? (All 25 tasks; bytes of arguments and results.)

# %%
x, y, out = (np.ones(2**22) for _ in range(3))
B, matrices = 2 * x.nbytes / seconds(np.copyto, out, x), {n: rng.standard_normal((n, n)) for n in (8, 16, 32, 128, 512)}
points = {f"{n} × {n}": (n / 12, 2 * n**3 / seconds(np.matmul, A, A)) for n, A in matrices.items()}  # by NumPy
for N in (2**10, 2**22):
    points[f"N = {N:,}"] = 1 / 24, N / seconds(np.multiply, x[:N], y[:N], out[:N])
moved = sum(part.nbytes for part in tm.tree.flatten((network, tasks, network))[0])
points |= {f"MAML, {name}": (maml.flops / moved, maml.flops / t) for name, t in took.items()}

# %%
P, I = max(speed for _, speed in points.values()), np.logspace(-1.7, 3.5, 300)
figure, ax = plt.subplots(figsize=(8.5, 4.8), layout="constrained")
ax.loglog(I, np.minimum(P, I * B) / 1e9, "k")
for name, (intensity, speed) in points.items():
    ax.loglog(intensity, speed / 1e9, {"N": "C1s", "M": "C3^"}.get(name[0], "C0o"))
    ax.annotate(name, (intensity, speed / 1e9), (6, -9), textcoords="offset points", fontsize=8)
ax.set(title=f"One core, P / B = {P / B:.1f} (squares: elementwise)", xlabel="I, operations a byte", ylabel="$10^9$ operations a second")
save(figure, "13_roofline")

# %% [markdown]
# See that large products come to the roof, and small ones don't: what is missing is $c$, of which (6) knows nothing. A small array may
# lie above the slope, for it comes from the cache. The two triangles are one calculation, far to the right: it doesn't wait for
# memory. The way from the lower to the upper is what this lesson is about. ($P$ is the best measured here, and a tanh counts as one
# operation: what is left above has less in it than it seems.)
#
# ## 7. Tasks in parallel
#
# Threads may share the 25 tasks. But gradients are added up, and *rounded addition isn't associative*: often
# $(a + b) + c \ne a + (b + c)$. If each thread adds its own tasks first, the sum depends on the number of threads. So the machine
# divides the tasks into *portions*, by their number alone; a thread takes one when it is free, and portions are added in order.
# **Predict:** how many different results will four numbers of threads give?

# %%
values, results = np.random.default_rng(2).standard_normal(25), set()
for threads in (4, 3, 2, 1):
    os.environ["TINYMETA_THREADS"] = str(threads)
    by_thread = sum(sum(part) for part in np.array_split(values, threads))
    results.add(b"".join(np.asarray(part).tobytes() for part in tm.tree.flatten(maml(network, tasks))[0]))
    ms = 1e3 * seconds(maml, network, tasks)
    print(f"{threads} threads: {ms:.3f} ms, different results so far: {len(results)}; 25 numbers, naively: {by_thread:.17f}")
assert len(results) == 1

# %% [markdown]
# More threads than free cores gain nothing, and a program that is over before a thread wakes up gains nothing either.
#
# ## On your own
#
# Write your answer in the stub's cell, then call the check, for instance `check_13_1(columns_needed)`.
#
# **Exercise 13.1: why batches.** A layer of $n \times n$ weights meets $k$ inputs at once: a product of $n \times n$ and $n \times k$.
# Find its intensity. From which $k$ on (a real number) does the arithmetic take longer than moving the bytes? Return infinity if for
# no $k$. And what is the intensity for one input?


# %%
def columns_needed(n, P, B):
    raise NotImplementedError("exercise 13.1")


# %%
def check_13_1(columns_needed):
    for n, ratio in ((64, 0.1), (64, 2.0), (512, 2.0), (512, 60.0), (512, 64.0), (64, 100.0)):
        k = columns_needed(n, ratio * 1e9, 1e9)
        k_checked = 1e9 if k == np.inf else k  # for more columns than any memory holds, the bytes still take longer
        arithmetic, bytes_ = 2 * n**2 * k_checked / ratio, 8 * (n**2 + 2 * n * k_checked)
        print(f"n = {n}, P/B = {ratio}: k = {k:.4g}, arithmetic / bytes = {arithmetic / bytes_:.4f}")
        assert k > 0 and (arithmetic < bytes_ if k == np.inf else np.isclose(arithmetic, bytes_)), "not yet equally long"


# %% tags=["solution"]
# F = 2 n^2 k, Q = 8 (n^2 + 2 n k), so I = n k / (4 n + 8 k). I = P / B =: r gives k (n - 8 r) = 4 n r. For n <= 8 r there is none: even
# as k grows, I stays below n / 8. For k = 1 I is about 1/4, whatever n: one input at a time reads each weight for two operations.
def columns_needed(n, P, B):
    r = P / B
    return 4 * n * r / (n - 8 * r) if n > 8 * r else np.inf


check_13_1(columns_needed)

# %% [markdown]
# **Exercise 13.2: where it loses.** Find two functions for which `tm.jit(f)` is slower than `f` on plain arrays: one by (4), with fewer
# than five instructions, and one that the machine can't do (try a few: the listing of `tm.trace` says `in NumPy`). Return two pairs of
# a function and a tuple of arguments. The clock judges, run it twice; asserted is that the listings show the reasons.


# %%
def losers():
    """[(f, args), (g, args)]"""
    raise NotImplementedError("exercise 13.2")


# %%
def check_13_2(losers):
    (f, f_args), (g, g_args) = losers()
    for h, args in ((f, f_args), (g, g_args)):
        plain, jitted = seconds(h, *args), seconds(tm.jit(h), *args)
        print(f"plain {1e6 * plain:.1f} µs, jitted {1e6 * jitted:.1f} µs: {jitted / plain:.2f} times as long")
    short, left = tm.trace(f, *f_args), tm.trace(g, *g_args)
    assert len(short) < 5 and "in NumPy" not in str(short), f"not by (4):\n{short}"
    assert "in NumPy" in str(left) or maml.arena_bytes == 0, f"the machine does it all:\n{left}"  # 0: there is no machine


# %% tags=["solution"]
# One addition of small arrays saves one c and costs C. A sort is left to NumPy: the same work, and C on top. (A third reason: one large
# product without any tasks. The machine does it on one thread, and NumPy, without our first cell, on all cores.)
def losers():
    return [(lambda x: x + 1, (np.ones(8),)), (lambda x: np.sort(x), (rng.standard_normal(1000),))]


check_13_2(losers)

# %% [markdown]
# ## Symbols
#
# The paper is Williams, Waterman and Patterson, *Roofline: an insightful visual performance model* (2009).
#
# | paper | here | variable | unit |
# |---|---|---|---|
# | peak performance | $P$ | `P` | operations a second |
# | peak bandwidth | $B$ | `B` | bytes a second |
# | operational intensity | $I = F / Q$ | `maml.flops / moved` | operations a byte |
# | ridge point | $P / B$ | `P / B` | operations a byte |
# | | $c$, $c'$ | `c`, `c_machine` | seconds an operation |
# | | $C$ | `C` | seconds a call |
# | | $n_*$ | in the first figure | |
# | | $b_s$ | `size` | bytes |
#
# **Next:** your own two-level experiment, with everything that you need to check it.
