"""Adversarial attacks: images stay valid, queries are exact, and an attack on a small network succeeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vamo_bbo as vb
from benchmarks import attack_methods
from problems.attack import (
    ImageAttack,
    LowFrequencies,
    Modulated,
    Pixels,
    Queries,
    QueryBudgetSpent,
    Tiles,
    log_probability,
    margin,
    squashed,
    stripes,
)
from problems.networks import Network
from problems.universal import UniversalAttack
from problems.victims import TorchNetworks

SHAPE = (2, 6, 5)


def linear_model(images: np.ndarray) -> np.ndarray:
    """Three classes that look at the mean, minus the mean, and one pixel."""
    flat = images.reshape(len(images), -1)
    return np.stack([flat.mean(axis=1), 0.6 - flat.mean(axis=1), flat[:, 0] - 1.0], axis=1)


def test_margin_is_negative_exactly_when_the_attack_succeeded() -> None:
    scores = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 0.0]])
    np.testing.assert_allclose(margin(scores, 0), [1.0, -2.0])
    np.testing.assert_allclose(margin(scores, 1, targeted=True), [1.0, -2.0])


def test_log_probability_is_that_of_the_softmax() -> None:
    scores = np.array([[1000.0, 1001.0], [0.0, 0.0]])
    np.testing.assert_allclose(log_probability(scores, 0), [-np.log(1 + np.e), -np.log(2)])


@pytest.mark.parametrize(
    "basis",
    [
        Pixels(SHAPE),
        Tiles(SHAPE, 3),
        LowFrequencies(SHAPE, 4),
        Modulated(Tiles(SHAPE, 3), stripes(SHAPE, np.random.default_rng(0))),
    ],
)
def test_bases_are_linear_and_injective(basis) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, basis.size))
    assert basis(a).shape == (1, *SHAPE)
    np.testing.assert_allclose(basis(2 * a - b), 2 * basis(a) - basis(b), atol=1e-12)
    matrix = basis(np.eye(basis.size)).reshape(basis.size, -1)
    assert np.linalg.matrix_rank(matrix) == basis.size


def test_tiles_cover_cells_of_their_own() -> None:
    tiles = Tiles((1, 4, 4), 2)(np.array([[1.0, 2.0, 3.0, 4.0]]))[0, 0]
    np.testing.assert_array_equal(tiles, [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])


def test_stripes_are_signs_that_do_not_change_along_a_column() -> None:
    pattern = stripes((3, 5, 40), np.random.default_rng(1))
    assert set(np.unique(pattern)) == {-1.0, 1.0}
    assert np.all(pattern == pattern[:, :1])
    assert not np.array_equal(pattern[0], pattern[1])


def test_low_frequencies_preserve_length() -> None:
    x = np.random.default_rng(0).standard_normal(2 * 16)
    assert np.linalg.norm(LowFrequencies(SHAPE, 4)(x)) == pytest.approx(np.linalg.norm(x))


@given(seed=st.integers(0, 1000), norm=st.sampled_from(["linf", "l2", "tanh"]), scale=st.floats(0.0, 50.0))
def test_adversarial_images_are_valid_and_near(seed: int, norm, scale: float) -> None:
    rng = np.random.default_rng(seed)
    image = rng.random(SHAPE)
    attack = ImageAttack(linear_model, image, 0, epsilon=0.3, norm=norm)
    made = attack.adversarial(scale * rng.standard_normal((3, attack.size)))
    assert made.shape == (3, *SHAPE)
    assert made.min() >= 0
    assert made.max() <= 1
    if norm == "linf":
        assert np.max(np.abs(made - image)) <= 0.3 + 1e-12
    if norm == "l2":
        assert np.max(np.linalg.norm((made - image).reshape(3, -1), axis=1)) <= 0.3 + 1e-12
    np.testing.assert_allclose(attack.adversarial(np.zeros(attack.size))[0], image, atol=2e-6)


def test_squashing_zero_is_the_image() -> None:
    image = np.array([0.01, 0.5, 0.99])
    np.testing.assert_allclose(squashed(image, np.zeros(3)), image)


def test_queries_are_exact_and_nothing_is_asked_beyond_the_budget() -> None:
    asked = []

    def predict(images):
        asked.append(len(images))
        return linear_model(images)

    model = Queries(predict, budget=5)
    attack = ImageAttack(model, np.full(SHAPE, 0.5), 0)
    attack(np.zeros(attack.size))
    attack.rows(np.zeros((3, attack.size)))
    assert (model.count, attack.n_queries) == (4, 4)
    with pytest.raises(QueryBudgetSpent, match="budget of 5"):
        attack.rows(np.zeros((2, attack.size)))
    assert (model.count, sum(asked)) == (4, 4)


def test_first_success_is_remembered_with_its_query() -> None:
    attack = ImageAttack(linear_model, np.full(SHAPE, 0.4), 0, epsilon=0.2)
    assert attack(np.ones(attack.size)) > 0
    assert attack.found is None
    attack.rows(np.stack([np.ones(attack.size), -np.ones(attack.size)]))
    assert attack.found_at == 3
    np.testing.assert_allclose(attack.found, 0.2)
    with pytest.raises(StopIteration):
        attack.stop(None)


def test_targeted_and_cross_entropy_point_the_same_way() -> None:
    image = np.full(SHAPE, 0.4)
    down, up = -np.ones(60), np.ones(60)
    for loss in ("margin", "cross-entropy"):
        away = ImageAttack(linear_model, image, 0, epsilon=0.2, loss=loss)
        towards = ImageAttack(linear_model, image, 0, target=1, epsilon=0.2, loss=loss)
        assert away(down) < away(up)
        assert towards(down) < towards(up)
        assert towards.success(down)
        assert not towards.success(up)


def test_confidence_is_a_floor() -> None:
    attack = ImageAttack(linear_model, np.full(SHAPE, 0.1), 0, epsilon=0.1, confidence=0.05)
    assert attack(-np.ones(60)) == -0.05


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="image must have shape"):
        ImageAttack(linear_model, np.zeros((4, 4)), 0)
    with pytest.raises(ValueError, match="norm must be"):
        ImageAttack(linear_model, np.zeros(SHAPE), 0, norm="l1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="loss must be"):
        ImageAttack(linear_model, np.zeros(SHAPE), 0, loss="hinge")  # type: ignore[arg-type]


def test_a_small_network_is_fooled_with_queries_alone() -> None:
    victims = pytest.importorskip("problems.victims")
    pytest.importorskip("sklearn")
    victim = victims.digits_mlp()
    assert victim.accuracy() > 0.9
    correct = np.flatnonzero(victim.predict(victim.images).argmax(axis=1) == victim.labels)[:10]
    fooled, queries = 0, []
    for number in correct:
        model = Queries(victim.predict, budget=2000)
        attack = ImageAttack(model, victim.images[number], int(victim.labels[number]), epsilon=0.25)
        vb.minimize(
            attack.rows,
            np.zeros(attack.size),
            method="zo-sign-sgd",
            options={"learning_rate": 0.1, "n_directions": 8, "smoothing": 0.1},
            bounds=[(-1.0, 1.0)] * attack.size,
            vectorized=True,
            callback=attack.stop,
            maxfev=2000,
            rng=int(number),
        )
        assert model.count <= 2000
        if attack.found is not None:
            fooled += 1
            queries.append(attack.found_at)
            assert np.max(np.abs(attack.found - victim.images[number])) <= 0.25 + 1e-12
            assert victim.predict(attack.found[None]).argmax() != victim.labels[number]
    assert fooled >= 8
    assert np.median(queries) < 500


def universal(confidence: float = 0.0) -> tuple[UniversalAttack, Network, np.ndarray]:
    rng = np.random.default_rng(0)
    images, labels = rng.random((6, 1, 3, 3)), rng.integers(0, 3, 6)
    labels[:3] = [0, 1, 2]
    network = Network(images.reshape(6, -1), labels, hidden=5)
    parameters = network.start(1)

    def predict(images):
        return network.scores(parameters, images.reshape(len(images), -1))

    return UniversalAttack(predict, images, labels, confidence=confidence), network, parameters


def test_universal_loss_is_hinge_plus_distortion() -> None:
    attack, _, _ = universal()
    x = 0.1 * np.random.default_rng(2).standard_normal(attack.size)
    idx = np.arange(6)
    assert np.mean(attack.losses(x, idx)) == pytest.approx(10 * attack.attack_loss(x) + attack.distortion(x))
    assert attack.distortion(np.zeros(attack.size)) == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(attack.losses(x, np.array([4, 1])), attack.losses(x, idx)[[4, 1]])
    assert attack.success(x) == (attack.fooled(x) == 1.0)


def test_surrogate_gradient_is_the_gradient_when_the_surrogate_is_the_model() -> None:
    attack, network, parameters = universal(confidence=100.0)
    x = 0.3 * np.random.default_rng(3).standard_normal(attack.size)
    idx = np.array([0, 2, 5])
    gradient = attack.surrogate_gradient(network, parameters, x, idx)
    for j in range(attack.size):
        step = 1e-6 * np.eye(attack.size)[j]
        difference = (attack.losses(x + step, idx) - attack.losses(x - step, idx)).mean() / 2e-6
        assert gradient[j] == pytest.approx(difference, rel=1e-5, abs=1e-7)


def test_torch_networks_as_a_surrogate_have_the_mean_of_their_scores_and_its_gradient() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    modules = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 3), torch.nn.Tanh()) for _ in range(2)]
    surrogate, rng = TorchNetworks(torch, modules, SHAPE), np.random.default_rng(0)
    inputs, outer = rng.uniform(size=(4, 60)), rng.standard_normal((4, 3))
    one_by_one = [TorchNetworks(torch, [module], SHAPE).scores(np.empty(0), inputs) for module in modules]
    np.testing.assert_allclose(surrogate.scores(np.empty(0), inputs), np.mean(one_by_one, axis=0), rtol=1e-6)
    gradient = surrogate.input_gradient(np.empty(0), inputs, outer)
    direction = rng.standard_normal(inputs.shape)
    ahead, behind = (surrogate.scores(np.empty(0), inputs + h * direction) for h in (1e-2, -1e-2))
    difference = np.sum(outer * (ahead - behind)) / 2e-2
    assert np.sum(gradient * direction) == pytest.approx(difference, rel=1e-2)  # float32


def test_the_benchmark_counts_to_the_first_success_or_the_budget() -> None:
    model = attack_methods.Watched(linear_model, np.full(SHAPE, 0.4), 0, epsilon=0.2, budget=10)
    assert model(np.full((3, *SHAPE), 0.4)).shape == (3, 3)
    with pytest.raises(attack_methods.AttackOver):
        model(np.stack([np.full(SHAPE, shade) for shade in (0.35, 0.1, 0.25, 0.35)]))
    assert (model.count, model.success) == (6, True)  # 0.1 is misclassified, but outside the ball
    model = attack_methods.Watched(linear_model, np.full(SHAPE, 0.4), 0, epsilon=0.05, budget=4)
    with pytest.raises(attack_methods.AttackOver):
        model(np.full((9, *SHAPE), 0.4))
    assert (model.count, model.success) == (4, False)


@pytest.mark.parametrize(
    "method", ["ours corners", "ours corners, halves", "ours adamm pixels", "NES", "Square p=0.05"]
)
def test_attacks_of_the_benchmark_fool_a_linear_model_within_the_budget(method: str) -> None:
    model = attack_methods.Watched(linear_model, np.full((1, 8, 8), 0.25), 1, epsilon=0.2, budget=1500)
    with pytest.raises(attack_methods.AttackOver):
        attack_methods.METHODS[method](model, 0)
    assert model.success
    assert model.count <= 1500
