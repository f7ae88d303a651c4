"""A training on a Dask cluster of two processes on this machine: `python on_a_cluster.py`.

In the middle of it, one of the processes is killed while it computes. Prints, as JSON, the largest differences to the same training in this
process, in one piece and in the same parts, and how many processes the cluster had in all.
"""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import tinymeta as tm

START = {"W": np.full((4, 4), 0.5), "b": np.zeros(4)}


def objective(theta, task):
    return np.sum(np.tanh(task @ theta["W"] + theta["b"]) ** 2)


def fit(**options):
    return tm.fit(objective, START, lambda rng, count: rng.normal(size=(count, 6, 4)), tm.optim.adam(0.01), iterations=20, meta_batch=10,
                  seed=0, quiet=True, **options)  # fmt: skip


def difference(one, other):
    return max(np.abs(tm.ravel(one.theta)[0] - tm.ravel(other.theta)[0]).max(), np.abs(one.losses - other.losses).max())


def doomed():
    """Run by a worker: its tenth part will be its last."""
    from tinymeta import distribution

    compute, calls = distribution.compute, iter(range(9))

    def deadly(*call):
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(*call)

    distribution.compute = deadly


def main():
    from distributed import Client, LocalCluster

    os.environ["TINYMETA_THREADS"] = "1"
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster, Client(cluster) as client:
        processes = client.run(os.getpid)
        client.run(doomed, workers=[min(processes)])
        there = fit(executor=client.get_executor())
        client.wait_for_workers(2, timeout=20)
        processes = {*processes.values(), *client.run(os.getpid).values()}
    with ThreadPoolExecutor(2) as threads:
        print(json.dumps({"in one piece": difference(there, fit()), "in parts": difference(there, fit(executor=threads)),
                          "processes": len(processes)}))  # fmt: skip


if __name__ == "__main__":
    main()
