@wrong("logsumexp_rule", "3.1", hint="a c_bar of its own")
def _(c_bar, c, x):
    return (np.exp(x - c[..., None]),)


@wrong("logsumexp_rule", "3.1", hint="add up to 1")
def _(c_bar, c, x):
    return (c_bar[..., None] * np.exp(x),)


@wrong("logsumexp_rule", "3.1", hint="add up to 1")
def _(c_bar, c, x):
    return (c_bar[..., None] * np.exp(x) / np.sum(np.exp(x)),)


@wrong("logsumexp_rule", "3.1", hint="returns a tuple")
def _(c_bar, c, x):
    return c_bar[..., None] * softmax(x)


@wrong("logsumexp_rule", "3.1", hint="held constant")
def _(c_bar, c, x):
    return (c_bar[..., None] * tm.stop_gradient(softmax(x)),)


@wrong("solve_rule", "3.2", hint="with which sign")
def _(x_bar, x, a, b):
    b_bar = np.linalg.solve(a.T, x_bar)
    return b_bar @ x.T, b_bar


@wrong("solve_rule", "3.2", hint="crosses the bracket transposed")
def _(x_bar, x, a, b):
    b_bar = np.linalg.solve(a, x_bar)
    return -np.linalg.solve(a.T, x_bar) @ x.T, b_bar


@wrong("solve_rule", "3.2", hint="what stands around dA")
def _(x_bar, x, a, b):
    b_bar = np.linalg.solve(a.T, x_bar)
    return -x_bar @ x.T, b_bar


@wrong("solve_rule", "3.2", hint="shaped like its input")
def _(x_bar, x, a, b):
    b_bar = np.linalg.solve(a.T, x_bar)
    return b_bar, -b_bar @ x.T


@wrong("solve_rule", "3.2", hint="needs one solve")
def _(x_bar, x, a, b):
    return -np.linalg.solve(a.T, x_bar) @ np.linalg.solve(a, b).T, np.linalg.solve(a.T, x_bar)


@wrong("solve_rule", "3.2", hint="needs one solve")
def _(x_bar, x, a, b):
    b_bar = np.linalg.inv(a).T @ x_bar
    return -b_bar @ x.T, b_bar


@wrong("normalise_rule", "3.3", hint="three terms")
def _(z_bar, z, x):
    return (z_bar / np.std(x),)


@wrong("normalise_rule", "3.3", hint="three terms")
def _(z_bar, z, x):
    return ((z_bar - np.mean(z_bar)) / np.std(x),)


@wrong("normalise_rule", "3.3", hint="means over all n")
def _(z_bar, z, x):
    return ((z_bar - np.mean(z_bar) - z * np.sum(z_bar * z)) / np.std(x),)


@wrong("normalise_rule", "3.3", hint="three terms")
def _(z_bar, z, x):
    return (z_bar - np.mean(z_bar) - z * np.mean(z_bar * z),)
