"""VAMO in a PyTorch training loop, and the same model handed to minimize: `pip install 'vamo_bbo[torch]'` first."""

# requires: torch
import numpy as np
import torch

import vamo_bbo as vb
from vamo_bbo.integrations.torch import VAMO, finite_sum, load_vector, parameter_vector

# Two classes on a ring and inside it.
rng = np.random.default_rng(0)
points = rng.standard_normal((400, 2))
inputs = torch.tensor(points, dtype=torch.float32)
labels = torch.tensor((points**2).sum(1) > 1.4).long()


def network() -> torch.nn.Module:
    """Return a small network, always the same."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))


def accuracy(model: torch.nn.Module) -> float:
    """Return the share of right answers."""
    with torch.no_grad():
        return float((model(inputs).argmax(1) == labels).float().mean())


# 1. An optimizer in a loop: the closure gives the losses of the samples it is asked for, and calls no backward.
model = network()
#    Nothing is to be tuned.
optimizer = VAMO(model.parameters(), n_samples=len(inputs))
for _ in range(600):
    optimizer.step(lambda idx: torch.nn.functional.cross_entropy(model(inputs[idx]), labels[idx], reduction="none"))
print(f"VAMO: {accuracy(model):.1%} after {optimizer.njev_samples} gradients and {optimizer.nfev_samples} losses")
assert accuracy(model) > 0.9

# 2. The module as an objective: every method of minimize works on its flat parameter vector.
model = network()
data = finite_sum(model, (inputs, labels), torch.nn.CrossEntropyLoss(reduction="none"))
result = vb.minimize(
    data, parameter_vector(model), method="adam", options={"learning_rate": 0.05}, rng=0, maxjev=30 * len(inputs)
)
load_vector(model, result.x)
print(f"Adam: {accuracy(model):.1%}, loss {result.fun:.4f} after {result.njev_samples} gradients")
assert accuracy(model) > 0.95
assert not any(p.grad is not None for p in model.parameters())
