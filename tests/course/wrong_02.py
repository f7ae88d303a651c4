@wrong("make_power", "2.1", hint="c_bar is 3")
def _():
    return Operation("power", lambda a, b: a**b, lambda c_bar, c, a, b: (b * c / a, c * log(a)))


@wrong("make_power", "2.1", hint="da in dc")
def _():
    return Operation("power", lambda a, b: a**b, lambda c_bar, c, a, b: (c_bar * b * c, c_bar * c * log(a)))


@wrong("make_power", "2.1", hint="db in dc")
def _():
    return Operation("power", lambda a, b: a**b, lambda c_bar, c, a, b: (c_bar * b * c / a, c_bar * c * log(b)))


@wrong("make_power", "2.1", hint="section 7")
def _():
    return Operation("power", lambda a, b: a**b, lambda c_bar, c, a, b: (c_bar * b * c / a, c_bar * c.value * math.log(a.value)))


@wrong("repaired_sweep", "2.2", hint="takes one node twice")
def _(output):
    nodes = newest_first(output)
    bars = {node: Node(0) for node in nodes} | {output: Node(1)}
    for c in nodes:
        if c.operation:
            terms = zip(c.inputs, c.operation.rule(bars[c], c, *c.inputs), strict=True)
            bars.update({x: bars[x] + term for x, term in terms})
    return bars


@wrong("repaired_sweep", "2.2", hint="a result is used twice")
def _(output):
    nodes = newest_first(output)
    bars = {node: Node(0) for node in nodes} | {output: Node(1)}
    for c in nodes:
        for x, term in zip(c.inputs, c.operation.rule(bars[c], c, *c.inputs) if c.operation else (), strict=True):
            bars[x] = term if x.operation else bars[x] + term
    return bars


@wrong("repaired_sweep", "2.2", hint="nothing is used twice")
def _(output):
    bars = {node: Node(1) for node in newest_first(output)}
    for c in bars:
        for x, term in zip(c.inputs, c.operation.rule(bars[c], c, *c.inputs) if c.operation else (), strict=True):
            bars[x] += term
    return bars


@wrong("repaired_sweep", "2.2", hint="complete when it is handed on")
def _(output):
    nodes = newest_first(output)
    bars = {node: Node(0) for node in nodes} | {output: Node(1)}
    for c in reversed(nodes):
        for x, term in zip(c.inputs, c.operation.rule(bars[c], c, *c.inputs) if c.operation else (), strict=True):
            bars[x] += term
    return bars
