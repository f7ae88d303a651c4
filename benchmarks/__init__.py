"""The workloads beside other engines, in one run: `python -m benchmarks`.

`workloads` says what is computed, `measure` how it is timed, and `__main__` writes the tables of `RESULTS.md`. `kernels` is a script of its
own.
"""
