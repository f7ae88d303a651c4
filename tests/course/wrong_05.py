def levels(**wrong):
    right = {"maml": ("start", False), "penalties": ("loss", False), "darts": ("loss", True)}
    return right | {"distillation": ("loss", False), "learned": ("step", False)} | wrong


@wrong("name_the_levels", "5.1", hint="distillation: theta doesn't enter by the start")
def _():
    return levels(distillation=("start", False))


@wrong("name_the_levels", "5.1", hint="learned: theta doesn't enter by the loss")
def _():
    return levels(learned=("loss", False))


@wrong("name_the_levels", "5.1", hint="hold the weights phi, move theta")
def _():  # whatever is in the inner loss is taken to be in the outer one
    return levels(penalties=("loss", True), distillation=("loss", True))


@wrong("each_jacobian", "5.2", hint="how large is dA / d lambda_j")
def _(penalties, task):  # without n
    X, _ = task["support"]
    return -np.linalg.solve(X.T @ X + len(X) * np.diag(penalties), np.diag(adapt_each(penalties, task)))


@wrong("each_jacobian", "5.2", hint="what does it multiply")
def _(penalties, task):  # all of phi in each column, as for the one penalty of lesson 5
    X, _ = task["support"]
    phi = adapt_each(penalties, task)
    return -np.linalg.solve(X.T @ X + len(X) * np.diag(penalties), len(X) * np.stack([phi, phi, phi], axis=1))


@wrong("each_jacobian", "5.2", hint="the transpose")
def _(penalties, task):
    X, _ = task["support"]
    return -np.linalg.solve(X.T @ X + len(X) * np.diag(penalties), len(X) * np.diag(adapt_each(penalties, task))).T
