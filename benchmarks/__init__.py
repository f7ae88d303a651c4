"""The workloads beside other engines, in one run: `python -m benchmarks`.

`workloads` says what is computed, `measure` how it is measured; `tables` and `figure` show it, and `__main__` writes `RESULTS.md` and
`results.png`. `kernels` is a script of its own.
"""
