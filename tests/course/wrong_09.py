@wrong("memory", "9.1", hint="if h > 0")
def _(A):
    return np.linalg.pinv(A) @ A  # the other projector


@wrong("memory", "9.1", hint="among [40.0, 2.0, 0.1, 0.0, 0.0]")
def _(A):
    lowest = np.linalg.eigh(A)[1][:, 0]  # the null space of the lesson has one dimension
    return np.outer(lowest, lowest)


@wrong("memory", "9.1", hint="what do (1 - αh)^K")
def _(A):
    return np.linalg.matrix_power(np.eye(len(A)) - 0.01 * A, 100)  # not yet the limit


@wrong("corrected", "9.2", hint="no hundredth")
def _(phi):
    return early_gradient(phi - 0.08 * tm.grad(network.inner)(phi, start, sine))  # a step of gradient descent


@wrong("corrected", "9.2", hint="the whole way behind it")
def _(phi):
    H, g = tm.hessian(network.inner)(phi, start, sine), tm.grad(network.inner)(phi, start, sine)
    return early_gradient(phi + np.linalg.solve(H, g))


@wrong("corrected", "9.2", hint="no hundredth")
def _(phi):
    H, g = tm.hessian(network.inner)(phi, start, sine), tm.grad(network.inner)(phi, start, sine)
    return early_gradient(phi) - np.linalg.solve(H, g)  # moves the gradient, not the point


@wrong("lasso_slope", "9.3", hint="it stays there")
def _(X, phi):
    return -np.linalg.solve(X.T @ X / len(X), np.sign(phi))


@wrong("lasso_slope", "9.3", hint="the others are constant")
def _(X, phi):
    return np.where(phi != 0, -np.linalg.solve(X.T @ X / len(X), np.sign(phi)), 0)  # the kinks forgotten until the end


@wrong("lasso_slope", "9.3", hint="+ θ sign(φ) = 0")
def _(X, phi):
    kept, slope = phi != 0, np.zeros(len(phi))
    slope[kept] = -np.linalg.solve(X[:, kept].T @ X[:, kept], np.sign(phi[kept]))  # n is missing
    return slope
