@wrong("label_gradient", "14.1", hint="what stands before y")
def _(X, s, A, f_phi):  # without S
    return X @ np.linalg.solve(A, f_phi)


@wrong("label_gradient", "14.1", hint="what before dφ/dy")
def _(X, s, A, f_phi):  # without A
    return s * (X @ f_phi)


@wrong("label_gradient", "14.1", hint="not (1)")
def _(X, s, A, f_phi):  # (4), copied
    return s * (1 - s) * (X @ np.linalg.solve(A, f_phi))


def in_both(task, test):
    rows = {tuple(x) for x in task["clean"][0]}
    return any(tuple(x) in rows for x in test[0])


@wrong("diagnose", "14.2", hint="agree with each other says nothing")
def _(F, again, task, test):
    if in_both(task, test):
        return "leak"
    return "sound" if np.isclose(F(theta, task), again(theta, task)) else "blind"


@wrong("diagnose", "14.2", hint="which rows are in both")
def _(F, again, task, test):  # knows the lesson's leak
    if len(task["clean"][0]) > 8:
        return "leak"
    return "sound" if np.isclose(again(theta, task), candidates["through the solve"](theta, task)) else "blind"


@wrong("diagnose", "14.2", hint="at a random theta")
def _(F, again, task, test):  # where sigma(theta) and sigma(-theta) are the same
    if in_both(task, test):
        return "leak"
    start = np.zeros(40)
    return "sound" if np.isclose(again(start, task), candidates["through the solve"](start, task)) else "blind"


@wrong("diagnose", "14.2", hint="section 1's losses have these values")
def _(F, again, task, test):  # anything but the lesson's own objects
    return "leak" if in_both(task, test) else "sound" if F is candidates["through the solve"] else "blind"


# A start for three steps
mine = tm.Bilevel(
    inner=lambda phi, theta, task: np.mean((task[0] @ phi - task[1]) ** 2),
    outer=lambda phi, theta, task: np.mean((task[2] @ phi - task[3]) ** 2),
)
mine_task = tuple(np.random.default_rng(0).standard_normal(shape) for shape in ((9, 3), 9, (9, 3), 9))


def three_steps(theta, task):
    X, y, X_query, y_query = task
    for _ in range(3):
        theta = theta - 0.2 * X.T @ (X @ theta - y) / len(X)
    return np.mean((X_query @ theta - y_query) ** 2)


@wrong("my_experiment", "14.3", hint="both run three_steps")
def _():
    return mine, np.ones(3), mine_task, three_steps, lambda theta, task: three_steps(theta, task)


@wrong("my_experiment", "14.3", hint="make the same mistakes")
def _():
    return mine, np.ones(3), mine_task, tm.maml.objective(mine, steps=3, lr=0.1), tm.maml.objective(mine, steps=3, lr=0.1)


@wrong("my_experiment", "14.3", hint="is F first order")
def _():
    return mine, np.ones(3), mine_task, tm.maml.objective(mine, steps=3, lr=0.1, order=1), three_steps


@wrong("my_experiment", "14.3", hint="different values")
def _():
    return mine, np.ones(3), mine_task, tm.maml.objective(mine, steps=2, lr=0.1), three_steps


@wrong("my_experiment", "14.3", hint="does the adaptation depend on theta")
def _():
    forgotten = lambda theta, task: three_steps(np.zeros(3), task) + 0 * np.sum(theta)
    return mine, np.ones(3), mine_task, forgotten, lambda theta, task: three_steps(np.zeros(3), task)


@wrong("my_experiment", "14.3", hint="the lesson's own")
def _():
    return problem, theta, task, candidates["through the solve"], again
