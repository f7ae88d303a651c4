"""A directive that describes a public name by its own docstring, which is Markdown, and its signature:

    ```{reference} tinymeta.maml.meta_gradient
    ```

A class is followed by its fields, properties and methods.
"""

import importlib
import inspect

from docstrings import to_markdown, with_room
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from tinymeta.autodiff.tensor import OPERATIONS


def find(name):
    """The object of a dotted name.

    >>> find("tinymeta.maml.adapt").__name__
    'adapt'
    """
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return getattr(find(module), attribute)


def describe(name, depth=3):
    """Markdown for one name, and for what belongs to it."""
    thing = find(name)
    if not inspect.getdoc(thing):
        raise ValueError(f"{name} has no docstring")
    if inspect.ismodule(thing):
        return with_room(to_markdown(thing.__doc__)) + (_functions() if name == "tinymeta.operations" else "")
    kind = "class" if inspect.isclass(thing) else "function"
    return _entry(kind, f"{name}{_signature(thing)}", inspect.getdoc(thing), depth, _members(name, thing) if kind == "class" else [])


def _functions():
    """What of NumPy's a Tensor understands."""
    numpys = [function for function in OPERATIONS if getattr(function, "__module__", "").startswith("numpy")]
    found = {f"{function.__module__}.{function.__name__}" for function in numpys}
    return "\n\n" + ", ".join(f"`{name.replace('numpy', 'np')}`" for name in sorted(found)) + "\n"


def _signature(thing):
    """Without types: the docstring says what they are."""
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return "()"
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name not in ("self", "cls", "_cls")]
    return str(inspect.Signature(bare))


def _members(name, thing):
    """(kind, title, docstring) of each field, property and method that has a docstring of its own, in the order of the file."""
    fields = ModuleAnalyzer.for_module(thing.__module__).find_attr_docs()
    documented = {field: "\n".join(text).strip() for (of, field), text in fields.items() if of == thing.__qualname__}
    for field, text in documented.items():
        yield "attribute", f"{name}.{field}", text
    for member, value in vars(thing).items():
        value = getattr(value, "__func__", value)
        if member.startswith("_") or member in documented or not inspect.getdoc(value):
            continue
        if isinstance(value, property) and value.__doc__:
            yield "property", f"{name}.{member}", value.__doc__
        elif inspect.isfunction(value):
            yield "method", f"{name}.{member}{_signature(value)}", value.__doc__


def _entry(kind, title, text, depth, members=()):
    fence = "`" * (depth + 2)
    inside = [_entry(*member, depth - 1) for member in members]
    return "\n".join([f"{fence}{{py:{kind}}} {title}", "", with_room(to_markdown(text)), "", *inside, fence, ""])


class Reference(SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self):
        name = self.arguments[0]
        self.env.note_dependency(inspect.getsourcefile(inspect.unwrap(thing) if callable(thing := find(name)) else thing))
        section = nodes.container(classes=["reference"])
        self.state.nested_parse(StringList(describe(name).splitlines(), name), 0, section)
        return section.children


def setup(app):
    """Sphinx's way in."""
    app.add_directive("reference", Reference)
    return {"version": "1", "parallel_read_safe": True}
