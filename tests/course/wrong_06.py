@wrong("first_order_is_exact", "6.1", hint="(-1)^K")
def _(alpha_a, steps):
    return alpha_a == 0


@wrong("first_order_is_exact", "6.1", hint="factor r^K")
def _(alpha_a, steps):
    return steps == 0


@wrong("first_order_is_exact", "6.1", hint="factor r^K")
def _(alpha_a, steps):
    return alpha_a < 1


@wrong("rate_gradient", "6.2", hint="dr / d alpha")
def _(theta, task, steps, alpha):  # the a of dr / d alpha = -a is forgotten
    (a, s), (c, d) = numbers(*task["support"]), numbers(*task["query"])
    r = 1 - alpha * a
    return -steps * r ** (steps - 1) * (theta - s) * c * (s + r**steps * (theta - s) - d)


@wrong("rate_gradient", "6.2", hint="the power K")
def _(theta, task, steps, alpha):  # one step alone
    (a, s), (c, d) = numbers(*task["support"]), numbers(*task["query"])
    r = 1 - alpha * a
    return -a * (theta - s) * c * (s + r**steps * (theta - s) - d)


@wrong("rate_gradient", "6.2", hint="the query set's")
def _(theta, task, steps, alpha):  # judged by the support set
    a, s = numbers(*task["support"])
    return -steps * a**2 * (1 - alpha * a) ** (2 * steps - 1) * (theta - s) ** 2


@wrong("where_training_ends", "6.3", hint="what then multiplies theta - s")
def _(a, s, c, alpha):  # without c
    r = 1 - alpha * a
    return np.average(s, weights=r**2), np.average(s, weights=r)


@wrong("where_training_ends", "6.3", hint="the mean exact, (4)")
def _(a, s, c, alpha):  # first order, twice
    end = np.average(s, weights=c * (1 - alpha * a))
    return end, end


@wrong("where_training_ends", "6.3", hint="divided by their sum")
def _(a, s, c, alpha):
    r = 1 - alpha * a
    return np.mean(c * r**2 * s), np.mean(c * r * s)
