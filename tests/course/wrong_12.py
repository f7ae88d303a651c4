@wrong("learn_ways", "12.1", hint="one score for each label")
def _(ways):
    return chosen._replace(evaluation_tasks=100), learn(chosen, 5, 200, 4).theta


@wrong("learn_ways", "12.1", hint="0.4 belongs to a loss")
def _(ways):
    experiment = classification.experiment(train, test, ways=ways, hidden=(64,))._replace(evaluation_tasks=100, alpha=2.0)
    return experiment, learn(experiment, ways, 200, 4).theta


@wrong("learn_ways", "12.1", hint="all of the labels")
def _(ways):
    experiment = classification.experiment(train, test, ways=ways, hidden=(64,))._replace(evaluation_tasks=100)
    return experiment, learn(experiment, 5, 200, 4).theta


@wrong("learn_ways", "12.1", hint="the trained θ")
def _(ways):
    experiment = classification.experiment(train, test, ways=ways, hidden=(64,))._replace(evaluation_tasks=100)
    learn(experiment, ways, 200, 4)
    return experiment, experiment.start(0)


@wrong("scores_without_leak", "12.2", hint="whose mean and variance")
def _(phi, support, query):
    return tm.nn.normalised_mlp(phi, np.concatenate([support, query]))[len(support) :]


@wrong("scores_without_leak", "12.2", hint="of the hidden layer")
def _(phi, support, query):
    images = (query - np.mean(support, axis=0)) / np.sqrt(np.var(support, axis=0) + 1e-5)
    return tm.relu(images @ phi[0]["W"] * phi[0]["scale"] + phi[0]["shift"]) @ phi[1]["W"] + phi[1]["b"]


@wrong("scores_without_leak", "12.2", hint="sqrt(variance + ε)")
def _(phi, support, query):
    given, asked = support @ phi[0]["W"], query @ phi[0]["W"]
    normal = (asked - np.mean(given, axis=0)) / (np.var(given, axis=0) + 1e-5)  # no root
    return tm.relu(normal * phi[0]["scale"] + phi[0]["shift"]) @ phi[1]["W"] + phi[1]["b"]


@wrong("difference", "12.3", hint="which one is it here")
def _(a, b):
    return np.mean(a - b), 1.96 * np.sqrt(np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b))  # as if independent


@wrong("difference", "12.3", hint="the root of n")
def _(a, b):
    return np.mean(a - b), 1.96 * np.std(a - b, ddof=1)


@wrong("difference", "12.3", hint="a is better by")
def _(a, b):
    return np.mean(b - a), 1.96 * np.std(a - b, ddof=1) / np.sqrt(len(a))
