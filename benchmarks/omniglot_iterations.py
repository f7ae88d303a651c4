"""How many iterations MAML takes on a small set of Omniglot before it knows its classes by heart.

    python -m benchmarks.omniglot_iterations images_background_small1.zip images_background_small2.zip

Trains on each set without its first two alphabets, and prints the accuracy on these as the training goes on. So the choice sees nothing of
the other set, which is tested on in the end.
"""

import argparse
from pathlib import Path

import tinymeta as tm
from tinymeta.experiments import classification, few_shot
from tinymeta.tasks import omniglot

LONGEST = {1: 20_000, 5: 1_000}  # by shots
LOOKS = 10


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser("python -m benchmarks.omniglot_iterations", description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="Omniglot's zips or folders")
    for path in parser.parse_args().data:
        drawings = omniglot.load(path)
        held_out = list(drawings.alphabets[:2])
        others = drawings.of([name for name in drawings.alphabets if name not in held_out])
        for shots, iterations in LONGEST.items():
            found = accuracies(others, drawings.of(held_out), shots, iterations)
            text = "  ".join(f"{iteration:,}: {100 * accuracy:.1f} %" for iteration, accuracy in found)
            print(f"{Path(path).stem}, {shots}-shot, without {' and '.join(held_out)}: {text}", flush=True)


def accuracies(train: tm.tasks.few_shot.Characters, held_out: tm.tasks.few_shot.Characters, shots: int, iterations: int) -> list:
    """(iteration, accuracy on 300 tasks)"""
    chosen = classification.experiment(train, held_out, ways=5, shots=shots)._replace(evaluation_tasks=300)
    accuracy = lambda theta: float(few_shot.evaluate(chosen, "maml", theta, seed=0).mean[-1])
    return tm.fit(chosen.objective("maml"), chosen.theta("maml", 0), chosen.draw, tm.optim.adam(chosen.learning_rate),
                  iterations=iterations, meta_batch=chosen.meta_batch, seed=(0, 1), label=f"{shots}-shot", evaluate=accuracy,
                  evaluate_every=iterations // LOOKS).evaluations  # fmt: skip


if __name__ == "__main__":
    main()
