"""Fool a neural network with queries alone: adversarial images of digits, counted to the query.

Run it from the repository with ``python examples/06_attack_a_model.py``; it needs scikit-learn.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # ``problems`` is used from the checkout

import vamo_bbo as vb
from problems import victims
from problems.attack import ImageAttack, Queries

BUDGET = 1000
SHADES = " .:-=+*#%@"


def show(left, right):
    """Print two 8x8 images side by side."""
    for a, b in zip(left, right, strict=True):
        print("".join(SHADES[int(9 * v)] * 2 for v in a), "  ", "".join(SHADES[int(9 * v)] * 2 for v in b))


def attack_image(predict, image, label, seed):
    """Return the attack after at most BUDGET queries; it knows the first adversarial image it met."""
    model = Queries(predict, budget=BUDGET)
    attack = ImageAttack(model, image, label, epsilon=0.25)
    vb.minimize(
        attack.rows,  # rows of points in, margins out: one query each
        np.zeros(attack.size),
        method=vb.zo_sign_sgd(1.0, n_directions=64, smoothing=0.02, law="block"),
        bounds=[(-1.0, 1.0)] * attack.size,
        vectorized=True,
        callback=attack.stop,
        maxfev=BUDGET,
        rng=seed,
    )
    return attack


def main():
    """Attack the first ten test images that the network gets right."""
    victim = victims.digits_mlp()
    print(f"accuracy of the network on images it has not seen: {victim.accuracy():.3f}")
    correct = np.flatnonzero(victim.predict(victim.images).argmax(axis=1) == victim.labels)[:10]
    fooled = []
    for number in correct:
        label = int(victim.labels[number])
        attack = attack_image(victim.predict, victim.images[number], label, seed=int(number))
        if attack.found is None:
            print(f"a {label}: not fooled in {attack.n_queries} queries")
            continue
        answer = int(victim.predict(attack.found[None]).argmax())
        print(f"a {label} is taken for a {answer} after {attack.found_at} queries")
        fooled.append((number, attack))
    number, attack = fooled[0]
    show(victim.images[number, 0], attack.found[0])
    assert len(fooled) >= 8
    assert all(np.max(np.abs(a.found - victim.images[n])) <= 0.25 + 1e-12 for n, a in fooled)


if __name__ == "__main__":
    main()
