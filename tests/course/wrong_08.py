@wrong("imaml", "8.1", hint="what does the term add to its gradient")
def _(B, f_phi, lambda_, theta, phi):  # the Hessian of the data's part alone
    v = np.linalg.solve(B, f_phi)
    return lambda_ * v, -(phi - theta) @ v


@wrong("imaml", "8.1", hint="by phi, and by theta")
def _(B, f_phi, lambda_, theta, phi):  # M = -I
    v = np.linalg.solve(B + lambda_ * np.eye(len(B)), f_phi)
    return v, -(phi - theta) @ v


@wrong("imaml", "8.1", hint="Mind (5)'s sign")
def _(B, f_phi, lambda_, theta, phi):
    v = np.linalg.solve(B + lambda_ * np.eye(len(B)), f_phi)
    return lambda_ * v, (phi - theta) @ v


@wrong("weight_gradient", "8.2", hint="when you differentiate by phi (H)")
def _(X, y, s, rho, f_phi, phi):  # works if all weights are 1
    v = np.linalg.solve(X.T @ X + rho * np.eye(len(phi)), f_phi)
    return (y - X @ phi) * (X @ v)


@wrong("weight_gradient", "8.2", hint="where by one s_i (column i of M)")
def _(X, y, s, rho, f_phi, phi):  # s_i stays in M
    v = np.linalg.solve((X.T * s) @ X + rho * np.eye(len(phi)), f_phi)
    return s * (y - X @ phi) * (X @ v)


@wrong("weight_gradient", "8.2", hint="the sign")
def _(X, y, s, rho, f_phi, phi):
    v = np.linalg.solve((X.T * s) @ X + rho * np.eye(len(phi)), f_phi)
    return (X @ phi - y) * (X @ v)


@wrong("rest_jacobian", "8.3", hint="multiplies the rows")
def _(W, x):  # W D for D W
    D = np.diag(1 - x**2)
    return np.linalg.solve(np.eye(len(x)) - W @ D, D)


@wrong("rest_jacobian", "8.3", hint="x stands in it twice")
def _(W, x):  # the layer isn't fed its own state
    return np.diag(1 - x**2)


@wrong("rest_jacobian", "8.3", hint="(2)'s minus")
def _(W, x):
    D = np.diag(1 - x**2)
    return -np.linalg.solve(np.eye(len(x)) - D @ W, D)
