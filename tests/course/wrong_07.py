@wrong("truncated", "7.1", hint="for which k does one get back to step 0")
def _(phis, k):  # where it stopped is taken for the start
    return by_recursion(phis[-k - 1 :])


@wrong("truncated", "7.1", hint="which vectors do they need")
def _(phis, k):  # off by one
    return by_recursion(phis[-k:]) | {"start": np.zeros_like(start)}


@wrong("truncated", "7.1", hint="which k of the terms in (5) remain")
def _(phis, k):  # the first steps, not the last
    return by_recursion(phis[: k + 1]) | {"start": np.zeros_like(start)}


@wrong("truncated", "7.1", hint="lambda_0 is the start's gradient")
def _(phis, k):  # cut off even if nothing is cut
    return by_recursion(phis[-k - 1 :]) | {"start": np.zeros_like(start)}


@wrong("reptile_direction", "7.2", hint="a matrix to the power K")
def _(theta, A, b, steps, alpha):  # element by element
    distance = theta - np.linalg.solve(A, b)
    return distance - (np.eye(len(b)) - alpha * A) ** steps @ distance


@wrong("reptile_direction", "7.2", hint="points uphill")
def _(theta, A, b, steps, alpha):
    distance = theta - np.linalg.solve(A, b)
    return np.linalg.matrix_power(np.eye(len(b)) - alpha * A, steps) @ distance - distance


@wrong("reptile_direction", "7.2", hint="where is the minimum")
def _(theta, A, b, steps, alpha):
    return theta - np.linalg.matrix_power(np.eye(len(b)) - alpha * A, steps) @ theta


@wrong("forwards", "7.3", hint="not where it leads")
def _(theta, task, steps):  # the parameters move first
    loss = lambda phi: problem.inner(phi, theta, task)
    phi, p = theta["start"], np.zeros_like(theta["start"])
    for _ in range(steps):
        phi = phi - alpha * tm.grad(loss)(phi)
        p = p - alpha * tm.hvp(loss, phi, p) - alpha * phi
    return tm.grad(problem.outer)(phi, theta, task) @ p


@wrong("forwards", "7.3", hint="both terms")
def _(theta, task, steps):  # first order: without the Hessian
    phi, p = theta["start"], np.zeros_like(theta["start"])
    for _ in range(steps):
        p = p - alpha * phi
        phi = phi - alpha * tm.grad(problem.inner)(phi, theta, task)
    return tm.grad(problem.outer)(phi, theta, task) @ p


@wrong("forwards", "7.3", hint="p moves by (1)")
def _(theta, task, steps):  # the sign of the second term
    loss = lambda phi: problem.inner(phi, theta, task)
    phi, p = theta["start"], np.zeros_like(theta["start"])
    for _ in range(steps):
        p = p - alpha * tm.hvp(loss, phi, p) + alpha * phi
        phi = phi - alpha * tm.grad(loss)(phi)
    return tm.grad(problem.outer)(phi, theta, task) @ p
