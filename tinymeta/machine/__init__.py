"""The second executor of the same graph: a function is traced once, and the program is run from then on."""

from .debugging import debug
from .program import Instruction, Program
from .trace import jit, trace

__all__ = ["Instruction", "Program", "debug", "jit", "trace"]
