"""A noisy simulator that sometimes crashes: calibrate two parameters, two evaluations at a time.

Run it with ``python examples/03_noisy_simulator.py``.
"""

import numpy as np

import vamo_bbo as vb


def simulate(parameters, rng):
    """Return the misfit of a simulated decay curve: a random number, and one time in twenty none at all."""
    rate, offset = parameters
    if int(1e9 * rate) % 20 == 7:
        raise ArithmeticError(f"the integrator did not converge at rate {rate:.3f}")
    time = np.linspace(0.0, 5.0, 40)
    measured = np.exp(-0.7 * time) + 0.2
    noise = rng.normal(scale=0.02, size=time.size)
    return float(np.mean((np.exp(-rate * time) + offset + noise - measured) ** 2))


def main():
    """Find rate 0.7 and offset 0.2."""
    result = vb.minimize(
        simulate,
        x0=[0.3, 1.0],
        method=vb.spsa(smoothing=0.1),
        noisy="rng",  # noise from `rng`: the run repeats; the answer is evaluated again, not a lucky sample
        bounds=[(0.0, 3.0), (-1.0, 2.0)],  # never violated
        x_scale=1.0,
        maxfev=1000,
        workers=2,  # processes; the result does not depend on their number
        rng=0,
    )
    print(f"rate {result.x[0]:.3f}, offset {result.x[1]:.3f}")
    print(f"misfit {result.fun:.5f}, standard error {result.fun_std:.5f}")
    print(f"{result.n_failed} of {result.nfev} evaluations failed")
    if result.n_failed:
        print(f"the first: {result.failures[0].error}")
    assert np.allclose(result.x, [0.7, 0.2], atol=0.1)


if __name__ == "__main__":
    main()
