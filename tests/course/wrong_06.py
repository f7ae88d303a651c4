@wrong("first_order_is_exact", "6.1", hint="(-1)^K")
def _(alpha_a, steps):
    return alpha_a == 0


@wrong("first_order_is_exact", "6.1", hint="factor r^K")
def _(alpha_a, steps):
    return steps == 0


@wrong("first_order_is_exact", "6.1", hint="factor r^K")
def _(alpha_a, steps):
    return alpha_a < 1
