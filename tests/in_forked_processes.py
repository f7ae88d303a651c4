"""Trainings in processes that were forked: `python in_forked_processes.py FILE`. (Not from the tests' own process, which has many threads.)

Of the second pool one process is killed. Python gives up that pool then, and ends the other process by SIGTERM, which is not like Ctrl-C
there. Prints, as JSON, the difference to the training in this process, how the second one ended, and the difference after it was resumed.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from on_a_cluster import difference, fit

import tinymeta as tm


def pool():
    return ProcessPoolExecutor(2, multiprocessing.get_context("fork"))


def main(path):
    with pool() as executor:
        there = fit(executor=executor)
    with pool() as executor:

        def accident(record):
            if record.iteration == 7:
                os.kill(min(executor._processes), signal.SIGKILL)
                deadline = time.monotonic() + 20
                while not executor._broken and time.monotonic() < deadline:  # until the pool has seen it
                    time.sleep(0.001)

        try:
            end = fit(executor=executor, callbacks=[accident], checkpoint=path).interrupted
        except tm.ExecutorError as error:
            end = str(error)
    kept = tm.load_checkpoint(path).iteration
    with ThreadPoolExecutor(2) as executor:
        resumed = fit(executor=executor, checkpoint=path, resume=True)
    print(json.dumps({"difference": difference(there, fit()), "end": end, "kept": kept, "resumed": difference(resumed, there)}))


if __name__ == "__main__":
    main(sys.argv[1])
