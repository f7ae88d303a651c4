@wrong("gauss_newton_product", "4.1", hint="the residuals bend")
def _(r, x, v):
    return tm.hvp(lambda x: np.sum(r(x) ** 2) / 2, x, v)


@wrong("gauss_newton_product", "4.1", hint="one step forwards, one back")
def _(r, x, v):
    return tm.jvp(r, (x,), (v,))[1]


@wrong("gauss_newton_product", "4.1", hint="is it a vector")
def _(r, x, v):
    return tm.vjp(r, x)[1](tm.jvp(r, (x,), (v,))[1])


@wrong("gauss_newton_product", "4.1", hint="one step forwards, one back")
def _(r, x, v):
    value, pullback = tm.vjp(r, x)
    return pullback(value)[0]


@wrong("best_step", "4.2", hint="held constant")
def _(f, x):
    g = tm.grad(f)(x)
    return g @ g / (g @ tm.grad(lambda x: np.sum(tm.grad(f)(x) ** 2))(x))


@wrong("best_step", "4.2", hint="by alpha")
def _(f, x):
    g = tm.grad(f)(x)
    return -(g @ g) / (g @ tm.hvp(f, x, g))


@wrong("best_step", "4.2", hint="along g")
def _(f, x):
    return x @ x / (x @ tm.hvp(f, x, x))


@wrong("best_step", "4.2", hint="by alpha")
def _(f, x):
    g = tm.grad(f)(x)
    return np.sqrt(g @ g) / (g @ tm.hvp(f, x, g))


@wrong("third_derivative", "4.3", hint="v comes in twice")
def _(f, x, v):
    return tm.grad(lambda x: np.sum(tm.hvp(f, x, v)))(x)


@wrong("third_derivative", "4.3", hint="no x is left")
def _(f, x, v):
    return tm.hvp(f, x, tm.hvp(f, x, v))


@wrong("third_derivative", "4.3", hint="v_i^2")
def _(f, x, v):
    return tm.grad(lambda x: np.sum(tm.hvp(f, x, v) * v) / 2)(x)


@wrong("third_derivative", "4.3", hint="no x is left")
def _(f, x, v):
    return tm.grad(lambda x: np.sum(tm.hvp(f, x, tm.grad(f)(x)) * v))(x)
