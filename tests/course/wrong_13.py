@wrong("columns_needed", "13.1", hint="count three matrices")
def _(n, P, B):  # the result isn't written
    return 4 * n * P / (n * B - 4 * P) if n * B > 4 * P else np.inf


@wrong("columns_needed", "13.1", hint="8 bytes a number")
def _(n, P, B):
    return n * P / (2 * (n * B - P)) if n * B > P else np.inf


@wrong("columns_needed", "13.1", hint="F / P is seconds")
def _(n, P, B):  # upside down
    return 4 * n * B / (n * P - 8 * B) if n * P > 8 * B else np.inf


@wrong("columns_needed", "13.1", hint="as k grows")
def _(n, P, B):  # below 0 where there is none
    return 4 * n * P / (n * B - 8 * P)


@wrong("losers", "13.2", hint="which m does (4) want")
def _():
    def f(x):
        for _ in range(20):
            x = np.sin(x)
        return x

    return [(f, (np.ones(8),)), (np.sort, (np.arange(9.0),))]


@wrong("losers", "13.2", hint="the second reason, not (4)")
def _():
    return [(np.sort, (np.arange(9.0),)), (np.sort, (np.arange(1000.0),))]


@wrong("losers", "13.2", hint="has a note")
def _():  # slow perhaps, but done
    return [(lambda x: x + 1, (np.ones(8),)), (lambda A: A @ A, (np.eye(500),))]
