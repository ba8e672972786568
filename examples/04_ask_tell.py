"""Ask and tell: for evaluations that happen elsewhere -- in a laboratory, a queue, another program.

Run it with ``python examples/04_ask_tell.py``.
"""

import pickle

import numpy as np

import vamo_bbo as vb


def experiment(x):
    """Stand for a measurement that takes a day."""
    return float(np.sum((x - [0.3, -0.2, 0.5]) ** 2))


def main():
    """Run rounds of experiments, with an interruption, late answers and a failure."""
    opt = vb.Optimizer(np.zeros(3), method=vb.zo_sgd(0.1, n_directions=4), rng=0, maxfev=400)

    trials = opt.ask()
    print(f"the first round has {len(trials)} trials, the first at {trials[0].x}")

    # Answers come in any order and in part; None, NaN or an exception is a failure.
    opt.tell(trials[3:], [experiment(t.x) for t in trials[3:]])
    opt.tell(trials[:1], [experiment(trials[0].x)])

    # The whole optimizer pickles between two answers: stop here, go on tomorrow.
    opt = pickle.loads(pickle.dumps(opt))
    opt.tell(trials[1:3], [experiment(t.x) for t in trials[1:3]])

    # A point from elsewhere counts too.
    opt.tell_point([0.5, 0.0, 0.5], experiment(np.array([0.5, 0.0, 0.5])))

    while not opt.stop():
        trials = opt.ask()
        opt.tell(trials, [experiment(t.x) for t in trials])
    print(f"stopped by {list(opt.stop())} after {opt.nfev} experiments: f = {opt.best_value:.1e}")
    assert opt.best_value < 1e-3


if __name__ == "__main__":
    main()
