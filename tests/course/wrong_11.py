@wrong("leak", "11.1", hint="axis of the points")
def _(tasks):
    return Task(tasks.query, tasks.query)  # what was given is gone


@wrong("leak", "11.1", hint="each x keeps its y")
def _(tasks):
    (x, y), (more_x, more_y) = tasks
    return Task(type(tasks.support)(np.concatenate([x, more_x], axis=1), np.concatenate([more_y, y], axis=1)), tasks.query)


@wrong("leak", "11.1", hint="what is given alone")
def _(tasks):
    given = type(tasks.support)(*(np.concatenate(both, axis=1) for both in zip(tasks.support, tasks.query, strict=True)))
    return Task(given, given)


@wrong("errors_at", "11.2", hint="A tuple doesn't change")
def _(alpha, theta):
    paper._replace(alpha=alpha)
    return few_shot.evaluate(paper, "maml", theta, seed=0, steps=5).mean


@wrong("errors_at", "11.2", hint="this θ that is adapted")
def _(alpha, theta):
    return few_shot.evaluate(paper._replace(alpha=alpha), "maml", maml[0], seed=0, steps=5).mean


@wrong("errors_at", "11.2", hint="six numbers")
def _(alpha, theta):
    return few_shot.evaluate(paper._replace(alpha=alpha), "maml", theta, seed=0).mean  # ten steps


@wrong("errors_at", "11.2", hint="the mean over the 600 waves")
def _(alpha, theta):
    return np.median(few_shot.evaluate(paper._replace(alpha=alpha), "maml", theta, seed=0, steps=5).errors, axis=0)


@wrong("rate_for_the_sum", "11.3", hint="by what factor")
def _(alpha, points):
    return alpha * points


@wrong("rate_for_the_sum", "11.3", hint="by what factor")
def _(alpha, points):
    return alpha / 10  # the one of the training for both


@wrong("rate_for_the_sum", "11.3", hint="by what factor")
def _(alpha, points):
    return alpha / points**2
