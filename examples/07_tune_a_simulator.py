"""Staff a call center that simpy simulates: named parameters, failures, workers, time-outs, and a run that goes on.

Run it with ``python examples/07_tune_a_simulator.py`` (needs the package simpy). It leaves ``call_center.db``, for
``python -m vamo_bbo show call_center.db``.
"""

import numpy as np
import simpy

import vamo_bbo as vb

ARRIVALS = 1.0
CUSTOMERS = 400


def simulate(triage, expert, seed):
    """Return the mean time in two queues in a row plus the price of their speeds; all randomness is from ``seed``."""
    if min(triage, expert) < 0.9 * ARRIVALS:
        raise RuntimeError(f"the queue grows without end at speeds {triage:.2f} and {expert:.2f}")
    rng = np.random.default_rng(seed)
    center = simpy.Environment()
    desks = [(simpy.Resource(center), triage), (simpy.Resource(center), expert)]
    spent = []

    def customer(work):
        since = center.now
        for (desk, speed), amount in zip(desks, work, strict=True):
            with desk.request() as turn:
                yield turn
                yield center.timeout(amount / speed)
        spent.append(center.now - since)

    def arrivals():
        for _ in range(CUSTOMERS):
            yield center.timeout(rng.exponential(1 / ARRIVALS))
            center.process(customer(rng.exponential(1.0, size=2)))

    center.process(arrivals())
    center.run()
    return float(np.mean(spent)) + 0.5 * (triage + expert)


def tune(maxfev):
    """Run until ``maxfev`` evaluations are made, counting those that the journal already has."""
    space = vb.Space(triage=vb.Real(0.5, 8.0, log=True), expert=vb.Real(0.5, 8.0, log=True))
    return vb.minimize(
        simulate,
        space.starting_at({"triage": 0.95, "expert": 6.0}),
        method=vb.zo_sgd(n_directions=4, smoothing=0.05),
        noisy="seed",  # all evaluations of a round see the same day
        workers=2,
        eval_timeout=60,  # seconds; a longer evaluation is killed, not the run
        journal="call_center.db",  # killed at any moment, the same script goes on
        maxfev=maxfev,
        rng=0,
    )


def main():
    """Make half of the run, then the other half: what the journal holds is not evaluated again."""
    half = tune(150)
    result = tune(300)
    data = vb.load("call_center.db")
    speeds = ", ".join(f"{name} {speed:.2f}" for name, speed in result.params.items())
    print(f"{speeds}: costs {result.fun:.2f}, standard error {result.fun_std:.2f}")
    print(f"{result.n_failed} of {result.nfev} evaluations failed; the first half made {half.nfev}")
    by_hand = float(np.mean([simulate(0.95, 6.0, day) for day in range(20)]))
    print(f"at the start the costs are {by_hand:.2f}")
    assert len(data.evaluations["value"]) < half.nfev + result.nfev  # what was known was not evaluated again
    assert result.n_failed > 0
    assert result.fun < 0.25 * by_hand


if __name__ == "__main__":
    main()
