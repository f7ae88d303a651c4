@wrong("log_and_sign", "10.1", hint="is not a number")
def _(x, p=10.0):
    large = np.abs(x) >= np.exp(-p)
    with np.errstate(all="ignore"):
        return np.where(large, np.log(np.abs(x)) / p, -1.0), np.where(large, np.sign(x), np.exp(p) * x)


@wrong("log_and_sign", "10.1", hint="bounded below only")
def _(x, p=10.0):
    return np.clip(np.log(np.maximum(np.abs(x), 1e-300)) / p, -1, 1), np.clip(np.exp(p) * x, -1, 1)


@wrong("log_and_sign", "10.1", hint="p says where")
def _(x, p=10.0):
    return np.log(np.maximum(np.abs(x), np.exp(-10))) / 10, np.clip(np.exp(10) * x, -1, 1)


@wrong("log_and_sign", "10.1", hint="the sign on both sides")
def _(x, p=10.0):
    return np.log(np.maximum(np.abs(x), np.exp(-p))) / p, np.sign(x)


@wrong("kept_and_dropped", "10.2", hint="t = 1 to K")
def _(alpha, steps):
    r = 1 - 2 * alpha  # the last loss alone
    return -4 * steps * r ** (2 * steps - 1), -2 * r**steps * (1 - r**steps) / alpha


@wrong("kept_and_dropped", "10.2", hint="all the g_j before it")
def _(alpha, steps):
    r, t = 1 - 2 * alpha, np.arange(1, steps + 1)
    return np.sum(-4 * t * r ** (2 * t - 1.0)), np.sum(-4 * r ** (2 * t - 1.0))  # the last g_j alone


@wrong("kept_and_dropped", "10.2", hint="what factor has g_j")
def _(alpha, steps):
    r, t = 1 - 2 * alpha, np.arange(1, steps + 1)
    return np.sum(-4 * t * r ** (2 * t - 1.0)), np.sum(-(r**t) * (1 - r**t) / alpha)


@wrong("gradient_descent_cell", "10.3", hint="is a σ(b)")
def _(alpha, rho):
    return {name: {"W": np.zeros((4, 1)), "b": np.array([gate])} for name, gate in (("i", alpha), ("f", 1 - alpha * rho))}


@wrong("gradient_descent_cell", "10.3", hint="what stands before φ")
def _(alpha, rho):
    logit = lambda a: np.array([np.log(a / (1 - a)) if a < 1 else 40.0])
    return {"i": {"W": np.zeros((4, 1)), "b": logit(alpha)}, "f": {"W": np.zeros((4, 1)), "b": np.array([40.0])}}  # no decay


@wrong("gradient_descent_cell", "10.3", hint="what stands before φ")
def _(alpha, rho):
    logit = lambda a: np.array([np.log(a / (1 - a)) if 0 < a < 1 else 40.0])
    return {name: {"W": np.zeros((4, 1)), "b": logit(gate)} for name, gate in (("i", alpha), ("f", 1 - rho))}  # not times α
