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
# # Lesson 1: Derivatives you can trust
#
# Every lesson after this one computes derivatives by rules that somebody wrote by hand. A wrong rule rarely *looks*
# wrong: lose a factor, and the loss still goes down, only more slowly, and nobody asks why. So before we write the first
# rule we build its judge. The judge knows no rules at all. It evaluates the function at two points and compares. But a
# judge makes errors too, and this lesson is about knowing their size.
#
# **You will**
# - derive the error of a central difference: one part from the step, one part from the machine;
# - find the best step, $h \sim \varepsilon^{1/3}$, and see both errors draw a V;
# - leave the subtraction out, by a step into the complex plane, and get every digit;
# - check sin and exp, and then catch a rule that is wrong by one part in a million.
#
# **You need** Taylor's theorem, complex numbers, and NumPy. Half an hour. Figures are written into `tinymeta-results/`.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.plots import save

# %% [markdown]
# ## 1. A slope from two values
#
# A derivative is a limit, and a computer takes no limits. It takes a small step $h$ to each side of $x$ and divides the
# rise by the run:
#
# $$ D(h) = \frac{f(x + h) - f(x - h)}{2h}. $$
#
# This is the *central difference*. In code it is as short as on paper.

# %%
def central_difference(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


# %% [markdown]
# ## 2. The error of the step
#
# Let $f$ have a continuous third derivative. *Taylor's theorem* with the remainder of third order, once to the right and
# once to the left, gives points $\xi_+$ in $(x, x + h)$ and $\xi_-$ in $(x - h, x)$ with
#
# $$ f(x + h) = f(x) + h f'(x) + \tfrac{h^2}{2} f''(x) + \tfrac{h^3}{6} f'''(\xi_+), $$
#
# $$ f(x - h) = f(x) - h f'(x) + \tfrac{h^2}{2} f''(x) - \tfrac{h^3}{6} f'''(\xi_-). $$
#
# *Subtract* the second line from the first. The terms with even powers of $h$ cancel, which is why we step to both
# sides:
#
# $$ f(x + h) - f(x - h) = 2h f'(x) + \tfrac{h^3}{6} \big( f'''(\xi_+) + f'''(\xi_-) \big). $$
#
# The mean of two values of a continuous function lies between them, so by the *intermediate value theorem* the function
# takes it too, at some $\xi$ between $\xi_-$ and $\xi_+$. The bracket is $2 f'''(\xi)$:
#
# $$ f(x + h) - f(x - h) = 2h f'(x) + \tfrac{h^3}{3} f'''(\xi). $$
#
# *Divide* by $2h$:
#
# $$ D(h) = f'(x) + \tfrac{h^2}{6} f'''(\xi). \tag{1} $$
#
# The last term is the *truncation error*, named after the series that we cut off. Halve $h$, and it should fall to a
# quarter, while error$/h^2$ should settle at $|f'''(x)| / 6$. For $f = \sin$ we have $f''' = -\cos$:

# %%
print(f"{'h':>8} {'error':>12} {'error / h^2':>12}")
for h in (0.1, 0.05, 0.025, 0.0125):
    error = np.abs(central_difference(np.sin, 1.0, h) - np.cos(1.0))
    print(f"{h:>8} {error:>12.3e} {error / h**2:>12.6f}")
print(f"predicted limit of the last column: {np.cos(1.0) / 6:.6f}")

# %% [markdown]
# ## 3. The error of the machine
#
# By (1) alone we would make $h$ as small as we can. But a computer's numbers are not the real numbers. The
# gap from 1 to the next float64 is $\varepsilon$, and near $t$ a number is rounded by at most $\varepsilon |t| / 2$. Two
# things are rounded before we subtract:
#
# - *the value*: a good `np.sin` or `np.exp` is right to about one unit in the last place, so it is off by at most
#   $\varepsilon |f(t)|$;
# - *the point*: $t = x + h$ is moved by at most $\varepsilon |t| / 2$, and by the *mean value theorem* this moves the value
#   by at most $\varepsilon |t f'(t)| / 2$, to first order.
#
# *Add* the two and drop the factor $\tfrac12$. Each computed value is off by at most $\varepsilon S$, where
#
# $$ S \ge |f(t)| + |t f'(t)| \quad \text{for } t \text{ in } [x - h, x + h]. \tag{2} $$
#
# The difference of two such values is, by the *triangle inequality*, off by at most $2 \varepsilon S$. *Divide* by $2h$:
#
# $$ \text{rounding error of } D(h) \;\le\; \frac{\varepsilon S}{h}. \tag{3} $$
#
# (The subtraction and the division round as well, but only their own small results, by a part $\varepsilon$. Beside (3)
# that is nothing.) Write $M$ for a bound on $|f'''|$ in the same interval and *add* (1) and (3). The total error is at most
#
# $$ E(h) = \frac{M h^2}{6} + \frac{\varepsilon S}{h}. \tag{4} $$

# %%
epsilon = np.finfo(float).eps


def error_bound(h, M, S):
    return M * h**2 / 6 + epsilon * S / h


# %% [markdown]
# ## 4. The best step
#
# One term of (4) grows with $h$, the other shrinks. At the smallest error *the derivative is zero*:
#
# $$ E'(h) = \frac{M h}{3} - \frac{\varepsilon S}{h^2} = 0. $$
#
# *Multiply* by $3 h^2 / M$ and *take the cube root*:
#
# $$ h^* = \Big( \frac{3\, \varepsilon S}{M} \Big)^{1/3}. \tag{5} $$
#
# So $h^*$ goes like $\varepsilon^{1/3}$. How good is it? From (5), $\varepsilon S = M h^{*3} / 3$. *Insert* this into (4):
#
# $$ E(h^*) = \frac{M h^{*2}}{6} + \frac{M h^{*2}}{3} = \frac{M h^{*2}}{2}. $$
#
# This goes like $\varepsilon^{2/3}$: of all the digits that the machine has, two thirds survive. For $\exp$ at $x = 1$
# everything is $e$, namely $f$, $x f'$ and $f'''$. So $S = 2e$ and $M = e$:

# %%
M, S = np.e, 2 * np.e
best_step = np.cbrt(3 * epsilon * S / M)
smallest = error_bound(best_step, M, S) / np.e
print(f"epsilon                {epsilon:.2e}   digits {-np.log10(epsilon):4.1f}")
print(f"best step              {best_step:.2e}")
print(f"relative error there   {smallest:.2e}   digits {-np.log10(smallest):4.1f}")

# %% [markdown]
# ## 5. The V-curve
#
# **Predict.** We will draw the measured error of $D(h)$ against $h$, for sin and exp at $x = 1$, both axes logarithmic,
# from $h = 10^{-18}$ to 1. Write your guesses down first:
# - What are the slopes of the right arm and of the left arm?
# - Where do the arms meet?
# - What is the error when $h$ is so small that $x + h$ *is* $x$ in the machine?

# %%
def draw_v(ax, f, slope, M, S):
    h = np.logspace(-18, 0, 181)
    ax.loglog(h, np.abs(central_difference(f, 1.0, h) - slope(1.0)), ".", markersize=4)
    ax.loglog(h, error_bound(h, M, S))
    ax.axvline(np.cbrt(3 * epsilon * S / M), color="grey", linestyle="--")
    ax.set(title=f"The derivative of {f.__name__} at x = 1", xlabel="step h", ylabel="error of D(h)", ylim=(1e-14, 1e3))
    ax.legend(["measured", "E(h), equation (4)", "h*, equation (5)"])


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
draw_v(left, np.sin, np.cos, M=np.cos(1), S=np.sin(1) + np.cos(1))
draw_v(right, np.exp, np.exp, M=np.e, S=2 * np.e)
save(figure, "01_v_curve")

# %% [markdown]
# Look along the line, which is equation (4) with $M$ and $S$ taken at $x$. On the right the dots lie on it, with slope 2:
# truncation is smooth. On the left they jump about below it, and the line has slope $-1$: rounding is as good as random,
# and a bound knows only the worst case. The arms meet at the dashed line, $h^*$. At the far left the dots stay level: there
# $x + h = x$, the difference is 0, and the error is the whole derivative. Just to the right, the rise is a small whole number
# of gaps. (The sine's shelf near $10^{-2}$: every third $h$ is nearly double, and where the rise doubles too, the error
# stays.)
#
# ## 6. Nothing to subtract
#
# Rounding hurts because two nearly equal numbers are subtracted. So don't subtract: step *sideways*, into the complex
# plane. If $f$ is analytic, its *Taylor series* holds there too. *Insert* the step $ih$, with $i^2 = -1$ and
# $i^3 = -i$:
#
# $$ f(x + ih) = f(x) + ih f'(x) - \tfrac{h^2}{2} f''(x) - i \tfrac{h^3}{6} f'''(x) + \dots $$
#
# For real $x$ the derivatives are real. *Take the imaginary part* of both sides and *divide* by $h$:
#
# $$ \frac{\operatorname{Im} f(x + ih)}{h} = f'(x) - \tfrac{h^2}{6} f'''(x) + \dots \tag{6} $$
#
# The truncation error is as small as before. The rounding error $\varepsilon S / h$ is gone, because the large number
# $f(x)$ sits in the real part and never meets the small one. Nothing stops us from taking $h = 10^{-30}$, whose square no
# digit can feel.
#
# **Predict** what it says of the absolute value at $x = -2$.

# %%
def complex_step(f, x, h=1e-30):
    return np.imag(f(x + 1j * h)) / h


print("|x| at x = -2, where the slope is -1:", complex_step(np.abs, -2.0))

# %% [markdown]
# That last line is the price. $|x + ih| = \sqrt{x^2 + h^2}$ is real, its imaginary part is 0, and the complex step reports
# the slope 0 without a word of warning. It needs a function that is analytic in *every* operation: no absolute value, no
# complex conjugate, no $\max$.
#
# ## 7. Check
#
# Two derivatives that we know in closed form, and both judges, the central one with the step of section 4.
# **Predict** the size of the differences in the last column, for each judge.

# %%
print(f"{'':>4} {'x':>5}  {'judge':<7} {'exact':>21} {'approximate':>21} {'difference':>11}")
for f, slope in ((np.sin, np.cos), (np.exp, np.exp)):
    for x in (-1.0, 0.5, 2.0):
        exact = slope(x)
        for judge, approximate in (("central", central_difference(f, x, best_step)), ("complex", complex_step(f, x))):
            print(f"{f.__name__:>4} {x:>5}  {judge:<7} {exact:>21.16f} {approximate:>21.16f} {exact - approximate:>11.1e}")

# %% [markdown]
# The central difference keeps about two thirds of the digits, as promised. The complex step keeps them all, up to the
# last bit.
#
# ## 8. The judge at work
#
# `tm.check_grad` is this lesson in one call. It differentiates by the library's rules (the column *exact* is what the
# rules say, even if they are wrong), then measures by the complex step (*approximate*). Where it meets an operation that
# isn't analytic, it takes extrapolated central differences (exercise 1.3).
#
# To read its report, know one trick: it first makes *one* number of all outputs, their sum with random weights; lesson 3
# shows which mistakes a plain sum hides. A single output is thus multiplied by a random number, and so is each first
# derivative (*order* 1). Order 2 differentiates a random combination of those: one row for each input, not one for each
# pair. Here is a neuron, first its plain gradient:

# %%
def neuron(w, x):
    return np.tanh(w @ x)


w, x = np.array([0.5, -0.3]), np.array([1.0, 2.0])
print("gradient by w:", tm.grad(neuron)(w, x))
print(tm.check_grad(neuron, w, x))

# %% [markdown]
# A judge who never convicts is useless, so let us commit a crime. `tm.custom_vjp` makes an operation from its forward and
# a rule of our own. (Lesson 2 says why it looks as it does.) Ours is wrong by one part in a million, which no plot of a
# training loss would ever show:

# %%
def forged_rule(c_bar, c, a):
    return (c_bar * np.cos(a) * (1 + 1e-6),)


print(tm.check_grad(tm.custom_vjp(np.sin, forged_rule), 1.0, order=1))

# %% [markdown]
# ## On your own
#
# Each exercise has a stub, which raises, and a check. Write your answer in the stub's cell, then call the check with it:
# `check_1_1(complex_gradient)`.
#
# **Exercise 1.1: all the partial derivatives.** Write the gradient of a function of a vector by complex steps, one for
# each coordinate. How many evaluations of $f$ does a model with a million parameters need?

# %%
def complex_gradient(f, x):
    """The vector of partial derivatives of f at the vector x."""
    raise NotImplementedError("exercise 1.1")


# %%
def check_1_1(gradient):
    found = gradient(lambda w: neuron(w, x), w)
    differences = [central_difference(lambda t, e=e: neuron(w + t * e, x), 0.0, best_step) for e in np.eye(2)]
    print("gradient", found, "differences", np.array(differences), "by the rules", tm.grad(neuron)(w, x))
    assert np.allclose(found, differences, rtol=1e-8)
    assert np.allclose(found, tm.grad(neuron)(w, x), rtol=1e-14, atol=0), "nothing was subtracted, so all digits should be there"


# %% tags=["solution"]
# One evaluation for each coordinate: a million of them.
def complex_gradient(f, x):
    return np.array([complex_step(lambda t, e=e: f(x + t * e), 0.0) for e in np.eye(len(x))])


check_1_1(complex_gradient)

# %% [markdown]
# **Exercise 1.2: in float32.** Predict from (5), for $\exp$ at $x = 1$, the best step in float32, and the relative error
# there. Then measure: average the size of the error over many points, which smooths the rounding out. All is in the precision
# of `points`, $h$ too (float32 plus NumPy's float64 is float64); only the true slope, and the comparison with it, are in
# float64. The check finds the step where the average is smallest. This step is smaller than predicted: why?

# %%
def mean_error(f, slope, points, h):
    """The mean size of the central difference's error, the difference computed in the precision of the points."""
    raise NotImplementedError("exercise 1.2")


# %%
def check_where_nothing_moves(mean_error):
    points = np.linspace(1, 3, 50, dtype=np.float32)  # here x + 1e-9 is x: D(h) is 0, and its error is the whole slope
    found, exact = mean_error(np.sin, np.cos, points, np.float64(1e-9)), np.mean(np.abs(np.cos(points.astype(float))))
    print(f"float32, h = 1e-9: mean error {found:.12f}, mean slope {exact:.12f}")
    assert np.allclose(found, exact, rtol=1e-12, atol=0), "the two should agree: is h in float32, and the slope in float64?"


# %%
def check_1_2(mean_error):
    check_where_nothing_moves(mean_error)
    for precision in (np.float32, np.float64):
        points, steps = np.linspace(0.5, 1.5, 1000, dtype=precision), np.logspace(-8, 0, 81)
        errors = [mean_error(np.exp, np.exp, points, h) / np.mean(np.exp(points)) for h in steps]
        measured, predicted = steps[np.argmin(errors)], np.cbrt(6 * np.finfo(precision).eps)
        print(f"{precision.__name__}: predicted {predicted:.1e}, error {predicted**2 / 2:.0e}; measured {measured:.1e}, {min(errors):.0e}")
        assert predicted / 4 < measured < predicted


# %% tags=["solution"]
def mean_error(f, slope, points, h):
    exact = slope(points.astype(float))
    return np.mean(np.abs(central_difference(f, points, points.dtype.type(h)) - exact))


check_1_2(mean_error)

# %% tags=["solution"]
# Why smaller: (3) adds up worst cases, but real roundings are mostly smaller and partly cancel. By (5) the best step goes
# with the cube root of what they are on average. We measure that at a step so small that truncation is nothing beside it.
for precision in (np.float32, np.float64):
    points, eps = np.linspace(0.5, 1.5, 1000, dtype=precision), np.finfo(precision).eps
    h = np.cbrt(6 * eps) / 10
    share = mean_error(np.exp, np.exp, points, h) / np.mean(eps * (1 + points) * np.exp(points) / h)
    print(f"{precision.__name__}: rounding is on average {share:.2f} of its bound, whose cube root is {np.cbrt(share):.2f}")

# %% [markdown]
# **Exercise 1.3: extrapolate.** By (1), $D(2h)$ has four times the truncation error of $D(h)$, up to terms of higher
# order. Combine the two numbers so that the $h^2$ terms cancel. By which factor should the error now fall when $h$ is
# halved?

# %%
def extrapolated_difference(f, x, h):
    """D(h) and D(2h), combined into an estimate without an h^2 term."""
    raise NotImplementedError("exercise 1.3")


# %%
def check_1_3(estimate):
    coarse, fine = (abs(estimate(np.sin, 1.0, h) - np.cos(1.0)) for h in (0.02, 0.01))
    print(f"halving h divides the error by {coarse / fine:.2f}")
    assert fine < abs(central_difference(np.sin, 1.0, 0.01) - np.cos(1.0)) / 1000
    assert round(coarse / fine) == 16


# %% tags=["solution"]
# 4 D(h) - D(2h) has no h^2 term, and 4 - 1 = 3 derivatives in it. What is left begins with h^4, and 2^4 = 16.
def extrapolated_difference(f, x, h):
    return (4 * central_difference(f, x, h) - central_difference(f, x, 2 * h)) / 3


check_1_3(extrapolated_difference)

# %% [markdown]
# ## Symbols
#
# | on paper | in code | what it is | shape |
# |---|---|---|---|
# | $f$, $f'$ | `f`, `slope` | the function and its derivative | scalar to scalar |
# | $x$ | `x` | where we differentiate | scalar |
# | $h$, $h^*$ | `h`, `best_step` | the step, the best step | scalar |
# | $D(h)$ | `central_difference(f, x, h)` | the derivative as measured | scalar |
# | $\varepsilon$ | `epsilon` | the gap from 1 to the next float64 | scalar |
# | $M$, $S$ | `M`, `S` | bounds on $\lvert f'''\rvert$ and on $\lvert f\rvert + \lvert t f'\rvert$ | scalar |
# | $E(h)$ | `error_bound(h, M, S)` | truncation plus rounding | scalar |
#
# **Next:** a rule for every operation, and one sweep that gives all derivatives at once. The judge will be there.
