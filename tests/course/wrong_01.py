@wrong("complex_gradient", "1.1", hint="one coordinate at a time")
def _(f, x):
    return np.full(len(x), np.imag(f(x + 1e-30j)) / 1e-30)


@wrong("complex_gradient", "1.1", hint="as in (6)")
def _(f, x):
    return np.array([np.imag(f(x + 1e-30j * e)) for e in np.eye(len(x))])


@wrong("complex_gradient", "1.1", hint="nothing is subtracted")
def _(f, x):
    return np.array([central_difference(lambda t, e=e: f(x + t * e), 0.0, best_step) for e in np.eye(len(x))])


@wrong("complex_gradient", "1.1", hint="3 inputs")
def _(f, x):
    return complex_step(lambda t: f(x + t), 0.0)


@wrong("mean_error", "1.2", hint="the step has to be converted")
def _(f, slope, points, h):
    return np.mean(np.abs(central_difference(f, points, h) - slope(points.astype(float))))


@wrong("mean_error", "1.2", hint="subtracted in float64")
def _(f, slope, points, h):
    return np.mean(np.abs(central_difference(f, points, points.dtype.type(h)) - slope(points)))


@wrong("mean_error", "1.2", hint="mean of the sizes")
def _(f, slope, points, h):
    return np.abs(np.mean(central_difference(f, points, points.dtype.type(h)) - slope(points.astype(float))))


@wrong("mean_error", "1.2", hint="mean of the sizes")
def _(f, slope, points, h):
    return np.max(np.abs(central_difference(f, points, points.dtype.type(h)) - slope(points.astype(float))))


@wrong("extrapolated_difference", "1.3", hint="add up to 1")
def _(f, x, h):
    return 4 * central_difference(f, x, h) - central_difference(f, x, 2 * h)


@wrong("extrapolated_difference", "1.3", hint="four times")
def _(f, x, h):
    return 2 * central_difference(f, x, h) - central_difference(f, x, 2 * h)


@wrong("extrapolated_difference", "1.3", hint="four times")
def _(f, x, h):
    return (4 * central_difference(f, x, 2 * h) - central_difference(f, x, h)) / 3
