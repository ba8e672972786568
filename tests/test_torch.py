"""PyTorch: the same numbers as the NumPy path, from either entrance."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo import EvaluationError, FiniteSum, OptionError, StateError

torch = pytest.importorskip("torch", reason="the integration needs PyTorch: pip install 'vamo_bbo[torch]'")
bridge = pytest.importorskip("vamo_bbo.integrations.torch")

N, D = 48, 5
RNG = np.random.default_rng(3)
ROWS = RNG.standard_normal((N, D))
TARGETS = ROWS @ np.arange(1.0, D + 1) + 0.3 * RNG.standard_normal(N)
INPUTS, OUTPUTS = torch.tensor(ROWS), torch.tensor(TARGETS)


def least_squares() -> FiniteSum:
    def value_and_grad(x, idx):
        rest = ROWS[idx] @ x - TARGETS[idx]
        return rest**2, 2 * ROWS[idx].T @ rest / len(idx)

    return FiniteSum(lambda x, idx: value_and_grad(x, idx)[0], N, value_and_grad=value_and_grad)


def linear(dtype=torch.float64):
    module = torch.nn.Linear(D, 1, bias=False, dtype=dtype)
    torch.nn.init.zeros_(module.weight)
    return module


def squared(output, target):
    return (output[:, 0] - target) ** 2


def closure_of(module):
    return lambda idx: squared(module(INPUTS[idx]), OUTPUTS[idx])


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(D, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).to(dtype)


SOLVERS = {
    "vamo": lambda: vb.vamo(0.05, batch_size=8),
    "vamo_paper": lambda: vb.vamo_paper(0.05, n_directions=2, batch_size=8),
    "svrg": lambda: vb.svrg(0.05, batch_size=8),
    "adam": lambda: vb.adam(0.05, batch_size=8),
    "zo_sgd": lambda: vb.zo_sgd(0.02, batch_size=8),
    "zo_svrg": lambda: vb.zo_svrg(0.02, batch_size=8, share_directions=True),
}


def numpy_steps(solver, steps: int, seed: int):
    """Drive the solver on the NumPy problem by hand."""
    from vamo_bbo.core.points import materialize
    from vamo_bbo.run.objective import Objective

    objective = Objective(least_squares(), size=D)
    state = solver.init(np.zeros(D), seed=seed, backend="auto", info=objective.info)
    while state.step < steps:
        answers = [objective.evaluate(p, materialize(state, p, np.empty(D)), seed) for p in solver.ask(state)]
        state = solver.tell(state, answers)
    return state


@pytest.mark.parametrize("name", SOLVERS)
def test_optimizer_takes_the_steps_of_the_numpy_path(name) -> None:
    module, solver = linear(), SOLVERS[name]()
    optimizer = bridge.SolverOptimizer(module.parameters(), solver, n_samples=N, seed=11)
    for _ in range(15):
        optimizer.step(closure_of(module))
    expected = numpy_steps(solver, 15, seed=11).arrays["x"]
    assert np.linalg.norm(expected) > 1.0
    np.testing.assert_allclose(module.weight.detach().numpy()[0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", SOLVERS)
def test_finite_sum_gives_the_result_of_the_numpy_path(name) -> None:
    module = linear()
    data = bridge.finite_sum(module, (INPUTS, OUTPUTS), squared)
    ours, theirs = (
        vb.minimize(problem, np.zeros(D), method=SOLVERS[name](), rng=5, options={"maxiter": 20})
        for problem in (data, least_squares())
    )
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-10, atol=1e-10)
    assert (ours.nfev_samples, ours.njev_samples) == (theirs.nfev_samples, theirs.njev_samples)
    assert not module.weight.any()  # the module is only read


def test_finite_sum_has_per_sample_losses_and_the_mean_gradient() -> None:
    module = network()
    data = bridge.finite_sum(module, (INPUTS, OUTPUTS), squared)
    x, idx = bridge.parameter_vector(module), np.array([7, 3, 40])
    expected = squared(module(INPUTS[idx]), OUTPUTS[idx])
    grads = torch.autograd.grad(expected.mean(), list(module.parameters()))
    losses, grad = data.value_and_grad(x, idx)
    np.testing.assert_allclose(data.losses(x, idx), expected.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(losses, data.losses(x, idx), rtol=1e-14)
    np.testing.assert_allclose(grad, torch.cat([g.reshape(-1) for g in grads]).numpy(), rtol=1e-12)


def test_finite_sum_takes_data_sets_of_either_kind() -> None:
    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return N

        def __getitem__(self, i):
            return INPUTS[i], OUTPUTS[i]

    module = network()
    x, idx = bridge.parameter_vector(module), np.arange(5)
    expected = bridge.finite_sum(module, (INPUTS, OUTPUTS), squared).losses(x, idx)
    for dataset in (Pairs(), torch.utils.data.TensorDataset(INPUTS, OUTPUTS)):
        data = bridge.finite_sum(module, dataset, squared)
        assert data.n_samples == N
        np.testing.assert_array_equal(data.losses(x, idx), expected)


def test_vector_and_module_hold_the_same_numbers_and_frozen_ones_stay() -> None:
    module = network(torch.float32)
    module[0].weight.requires_grad_(False)
    frozen = module[0].weight.clone()
    x = bridge.parameter_vector(module)
    assert x.dtype == np.float32
    assert x.size == sum(p.numel() for p in module.parameters()) - frozen.numel()
    bridge.load_vector(module, x + np.float32(1))
    np.testing.assert_array_equal(bridge.parameter_vector(module), x + np.float32(1))
    assert torch.equal(module[0].weight, frozen)
    with pytest.raises(OptionError, match="x must have shape"):
        bridge.load_vector(module, x[:-1])


def test_parameters_are_views_of_the_iterate() -> None:
    module = network()
    optimizer = bridge.VAMO(module.parameters(), lr=0.01, n_samples=N, batch_size=8)
    x = optimizer._state.arrays["x"]
    for steps in (0, 3):
        for _ in range(steps):
            optimizer.step(closure_of(module))
        assert all(np.shares_memory(x, p.detach().numpy()) for p in module.parameters())
        np.testing.assert_array_equal(bridge.parameter_vector(module), x)


def test_vamo_needs_no_loss_between_snapshots() -> None:
    module = network()
    optimizer = bridge.VAMO(module.parameters(), lr=0.01, n_samples=N, batch_size=8, n_directions=3)
    optimizer.step(closure_of(module))
    assert (optimizer.nfev_samples, optimizer.njev_samples) == (4 * N, 8)
    for _ in range(N // 8 - 1):
        optimizer.step(closure_of(module))
    assert (optimizer.nfev_samples, optimizer.njev_samples) == (4 * N, N)


def test_vamo_without_a_learning_rate_needs_no_tuning() -> None:
    """Whatever the scale of the loss: to the least squares solution, with the metric per layer."""
    best = np.linalg.lstsq(ROWS, TARGETS, rcond=None)[0]
    for scale in (1e-3, 1.0, 1e3):
        module = linear()
        optimizer = bridge.VAMO(module.parameters(), n_samples=N)
        assert "left0" not in optimizer._state.arrays  # a single row: no basis for it
        assert optimizer.solver.recipe.table.preconditioner.shapes == ((1, D),)
        for _ in range(300):
            optimizer.step(lambda idx, module=module, scale=scale: scale * closure_of(module)(idx))
        assert np.abs(module.weight.detach().numpy()[0] - best).max() < 1e-4


def test_the_best_point_on_held_back_samples_can_be_kept() -> None:
    """As docs/torch has it: 16 weights fitted to 20 noisy samples are best for others before they fit these."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(220, 16, generator=generator, dtype=torch.float64)
    outputs = inputs[:, 0] + torch.randn(220, generator=generator, dtype=torch.float64)
    module = torch.nn.Linear(16, 1, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(module.weight)
    optimizer = bridge.VAMO(module.parameters(), n_samples=20)

    def held_back() -> float:
        with torch.no_grad():
            return squared(module(inputs[20:]), outputs[20:]).mean().item()

    best, kept = held_back(), None
    for step in range(120):
        optimizer.step(lambda idx: squared(module(inputs[idx]), outputs[idx]))
        if step % 2 and held_back() < best:
            best, kept = held_back(), {name: value.clone() for name, value in module.state_dict().items()}
    assert kept is not None
    assert held_back() > 1.2 * best
    module.load_state_dict(kept)
    assert held_back() == best


def test_weight_decay_as_a_term_of_the_loss_is_ridge_regression() -> None:
    module, weight = linear(), 0.2
    optimizer = bridge.VAMO(module.parameters(), n_samples=N)
    for _ in range(600):
        optimizer.step(lambda idx: closure_of(module)(idx) + weight * module.weight.square().sum())
    ridge = np.linalg.solve(ROWS.T @ ROWS + N * weight * np.eye(D), ROWS.T @ TARGETS)
    assert np.abs(module.weight.detach().numpy()[0] - ridge).max() < 1e-4


def test_vamo_takes_the_metric_of_the_layers_that_are_trained() -> None:
    module = network()
    module[0].bias.requires_grad_(False)
    optimizer = bridge.VAMO(module.parameters(), n_samples=N)
    assert optimizer.solver.recipe.table.preconditioner.shapes == ((4, D), (1, 4), (1,))
    assert optimizer.solver.recipe.table.averaging is None  # the parameters are the iterate
    guided = bridge.VAMO(module.parameters(), n_samples=N, preconditioner="guided")
    assert guided.solver.recipe.table.preconditioner == vb.vamo().recipe.table.preconditioner
    assert bridge.VAMO(module.parameters(), lr=0.1, n_samples=N).solver.recipe.table.preconditioner is None


def test_vamo_fits_the_data() -> None:
    module = linear(torch.float32)
    inputs, outputs = INPUTS.float(), OUTPUTS.float()
    optimizer = bridge.VAMO(module.parameters(), lr=0.05, n_samples=N, batch_size=8, n_directions=D)
    for _ in range(300):
        optimizer.step(lambda idx: squared(module(inputs[idx]), outputs[idx]))
    best = np.linalg.lstsq(ROWS, TARGETS, rcond=None)[0]
    assert np.abs(module.weight.detach().numpy()[0] - best).max() < 2e-2


SAVED = SOLVERS | {"kronecker": lambda: vb.vamo(preconditioner=vb.Kronecker.of(network()), batch_size=8)}


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_run_goes_on_exactly(name, tmp_path) -> None:
    def make(module):
        return bridge.SolverOptimizer(module.parameters(), SAVED[name](), n_samples=N, lr=0.01, seed=4)

    whole, module = network(), network()
    straight, first = make(whole), make(module)
    for _ in range(13):
        straight.step(closure_of(whole))
    for _ in range(8):
        first.step(closure_of(module))
    torch.save({"model": module.state_dict(), "optimizer": first.state_dict()}, tmp_path / "run.pt")
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    resumed = network()
    resumed.load_state_dict(saved["model"])
    second = make(resumed)
    second.load_state_dict(saved["optimizer"])
    for _ in range(5):
        second.step(closure_of(resumed))
    np.testing.assert_array_equal(bridge.parameter_vector(resumed), bridge.parameter_vector(whole))
    assert second.nfev_samples == straight.nfev_samples


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_the_kronecker_metric_sees_the_layers_as_they_lie_in_x(frozen) -> None:
    """Each block of the metric is turned by its own layer: one that learns from a single layer moves no other."""
    module = network()
    list(module.parameters())[frozen].requires_grad_(requires_grad=False)
    x, metric = bridge.parameter_vector(module), vb.Kronecker.of(module)
    scalars: dict[str, float] = {}
    arrays = {s.name: np.zeros(s.shape) for s in metric.arrays(x.size)}
    gradients = np.random.default_rng(0).standard_normal((20, x.size))
    for g in gradients:
        metric.add(arrays, scalars, g, 1.0)
    metric.refresh(arrays, scalars, 20.0)
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    for name in names:
        probe = copy.deepcopy(module)
        with torch.no_grad():
            for other, p in probe.named_parameters():
                p.fill_(1.0 if other == name else 0.0)
        v = bridge.parameter_vector(probe)
        bridge.load_vector(probe, metric.apply(arrays, scalars, v))
        moved = {other for other, p in probe.named_parameters() if p.requires_grad and bool(p.any())}
        assert moved == {name}


def test_a_state_of_something_else_is_refused() -> None:
    small, large = linear(), network()
    state = bridge.VAMO(small.parameters(), n_samples=N).state_dict()
    for other in (
        bridge.VAMO(large.parameters(), n_samples=N),
        bridge.SolverOptimizer(linear().parameters(), vb.adam(), n_samples=N),
    ):
        with pytest.raises(StateError, match="another solver"):
            other.load_state_dict(copy.deepcopy(state))
    with pytest.raises(StateError):
        bridge.VAMO(small.parameters(), n_samples=N).load_state_dict({"state": {}, "param_groups": []})


def test_schedulers_change_the_step() -> None:
    module = linear()
    optimizer = bridge.SolverOptimizer(module.parameters(), vb.sgd(batch_size=N), n_samples=N, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for lr in (0.1, 0.05, 0.025):
        before = module.weight.detach().numpy()[0].copy()
        optimizer.step(closure_of(module))
        scheduler.step()
        grad = 2 * ROWS.T @ (ROWS @ before - TARGETS) / N
        np.testing.assert_allclose(module.weight.detach().numpy()[0], before - lr * grad, rtol=1e-10, atol=1e-12)


def test_step_returns_the_loss_of_its_batch() -> None:
    module = linear()
    optimizer = bridge.SolverOptimizer(module.parameters(), vb.sgd(0.1, batch_size=N), n_samples=N)
    assert optimizer.step(closure_of(module)) == pytest.approx(np.mean(TARGETS**2))


def test_a_mean_only_closure_works_on_fixed_batches() -> None:
    module = linear()

    def mean(idx):
        return squared(module(INPUTS[idx]), OUTPUTS[idx]).mean()

    optimizer = bridge.VAMO(module.parameters(), lr=0.05, n_samples=N, batch_size=8, per_sample=False)
    first = optimizer.step(mean)
    for _ in range(60):
        last = optimizer.step(mean)
    assert last < 0.2 * first
    strict = bridge.VAMO(linear().parameters(), lr=0.05, n_samples=N, batch_size=8)
    with pytest.raises(OptionError, match="one loss per sample"):
        strict.step(mean)


def test_failures() -> None:
    module = linear()
    optimizer = bridge.VAMO(module.parameters(), lr=0.1, n_samples=N)
    with pytest.raises(OptionError, match="closure"):
        optimizer.step()
    with pytest.raises(ZeroDivisionError):  # a bug in the closure is not a failed point
        optimizer.step(lambda idx: 1 / 0)
    with pytest.raises(EvaluationError, match="in a row"):
        optimizer.step(lambda idx: closure_of(module)(idx) * float("nan"))
    assert not module.weight.any()  # back at the last good point


def test_one_bad_batch_costs_half_a_step_and_not_the_run() -> None:
    module = linear()
    optimizer = bridge.SolverOptimizer(module.parameters(), vb.sgd(0.05, batch_size=8), n_samples=N)
    calls = []

    def sometimes(idx):
        calls.append(len(idx))
        return closure_of(module)(idx) * (float("nan") if len(calls) == 4 else 1.0)

    for _ in range(40):
        optimizer.step(sometimes)
    assert len(calls) == 41
    assert float(squared(module(INPUTS), OUTPUTS).detach().mean()) < 0.2 * np.mean(TARGETS**2)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        (lambda: [], "empty"),
        (lambda: [*linear().parameters(), *linear(torch.float32).parameters()], "one device"),
        (lambda: linear(torch.float16).parameters(), "float32 or all float64"),
        (
            lambda: [{"params": linear().parameters()}, {"params": linear().parameters()}],
            "one group",
        ),
    ],
)
def test_parameters_that_cannot_be_one_vector_are_refused(parameters, match) -> None:
    with pytest.raises(ValueError, match=match):
        bridge.VAMO(parameters(), n_samples=N)


def test_finite_sum_refuses_what_has_no_per_sample_loss() -> None:
    data = (INPUTS, OUTPUTS)
    with pytest.raises(OptionError, match="reduction='none'"):
        bridge.finite_sum(network(), data, torch.nn.MSELoss())
    with pytest.raises(OptionError, match="one value per sample"):
        bridge.finite_sum(network(), data, lambda p, y: (p - y[:, None]) ** 2).losses(np.zeros(29), np.arange(3))
    dropped = torch.nn.Sequential(network(), torch.nn.Dropout(0.1))
    with pytest.raises(OptionError, match=r"module\.eval"):
        bridge.finite_sum(dropped, data, squared)
    assert bridge.finite_sum(dropped.eval(), data, squared).n_samples == N
    frozen = network().requires_grad_(False)
    with pytest.raises(OptionError, match="no trainable parameter"):
        bridge.finite_sum(frozen, data, squared)


def test_the_package_does_not_import_torch() -> None:
    code = "import sys, vamo_bbo; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_step_leaves_grad_as_it_was_and_asks_only_its_own_parameters() -> None:
    module = network()
    module[0].weight.grad = torch.ones_like(module[0].weight)
    own = [p for p in module.parameters() if p is not module[2].bias]
    bridge.VAMO(own, lr=0.01, n_samples=N, batch_size=8).step(closure_of(module))
    assert torch.equal(module[0].weight.grad, torch.ones_like(module[0].weight))
    assert module[2].bias.grad is None


def test_a_parameter_that_the_loss_does_not_use_stays() -> None:
    module, idle = linear(), torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = bridge.SolverOptimizer([*module.parameters(), idle], vb.sgd(0.1, batch_size=8), n_samples=N)
    for _ in range(3):
        optimizer.step(closure_of(module))
    assert torch.equal(idle.detach(), torch.ones(3, dtype=torch.float64))
    assert module.weight.any()


def test_frozen_parameters_in_the_list_stay_as_they_are() -> None:
    module = network()
    module[0].requires_grad_(False)
    before = [p.clone() for p in module.parameters()]
    optimizer = bridge.VAMO(module.parameters(), lr=0.05, n_samples=N, batch_size=8)
    for _ in range(10):
        optimizer.step(closure_of(module))
    moved = [not torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]


@pytest.mark.parametrize(
    ("closure", "match"),
    [
        (lambda losses: losses.detach(), "no detach"),
        (lambda losses: losses.sum().item(), "must return a tensor"),
        (lambda losses: losses[:, None], r"got \(\d+, 1\)"),
        (lambda losses: losses[:3], r"got \(3,\)"),  # of a data loader's batch instead of the samples idx
    ],
)
def test_a_closure_that_returns_no_losses_is_told_so(closure, match) -> None:
    module = linear()
    optimizer = bridge.SolverOptimizer(module.parameters(), vb.sgd(0.1, batch_size=8), n_samples=N)
    with pytest.raises(OptionError, match=match):
        optimizer.step(lambda idx: closure(closure_of(module)(idx)))


def test_what_would_be_ignored_is_refused() -> None:
    with pytest.raises(OptionError, match="weight_decay"):
        bridge.VAMO([{"params": linear().parameters(), "weight_decay": 0.1}], n_samples=N)
    with pytest.raises(OptionError, match=r"vb\.sgd\(\).*'adam'"):
        bridge.SolverOptimizer(linear().parameters(), "adam", n_samples=N)


@pytest.mark.parametrize(
    ("dataset", "match"),
    [
        (lambda: (INPUTS, OUTPUTS[:-1]), "as many"),  # the samples without a target would be left out of the sum
        (lambda: (INPUTS.numpy(), OUTPUTS.numpy()), "two tensors"),
        (lambda: (INPUTS, OUTPUTS, OUTPUTS), "two tensors"),
        (lambda: torch.utils.data.TensorDataset(INPUTS), "two tensors"),
        (lambda: torch.utils.data.DataLoader(torch.utils.data.TensorDataset(INPUTS, OUTPUTS)), r"\.dataset"),
    ],
)
def test_a_data_set_that_cannot_be_indexed_in_pairs_is_refused(dataset, match) -> None:
    with pytest.raises(OptionError, match=match):
        bridge.finite_sum(network(), dataset(), squared)
