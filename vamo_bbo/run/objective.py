"""The user's objective behind one method: a probe and its point in, an answer out, failures included."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from vamo_bbo import backends
from vamo_bbo._typing import Array, FloatArray, IndexArray, Tag
from vamo_bbo.core import sampling
from vamo_bbo.core.types import Answer, Batch, Probe, ProblemInfo
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run import outputs
from vamo_bbo.run.scaling import Scaling

__all__ = ["LARGE", "Objective"]

LARGE = 1_000_000
"""Dimension from which points are written to one reused scratch array instead of a fresh array per call."""

_NOTHING_DRAWN: tuple[Batch | None, int, IndexArray] = (None, 0, np.empty(0, dtype=np.int64))


class Objective:
    """Evaluate probes of a callable or a :class:`~vamo_bbo.problem.FiniteSum`.

    Exceptions, NaN, inf and outputs of the wrong shape or type become failed answers, never exceptions; but at x0, and
    from a vectorized call, such an output is a bug and is raised (:class:`~vamo_bbo.run.outputs.OutputError`).
    ``KeyboardInterrupt`` and other non-``Exception`` classes propagate, and so does ``StopIteration``, as it does from
    scipy's methods.

    Parameters
    ----------
    fun : callable or FiniteSum
        ``fun(x, *args) -> float``, or ``(float, (D,) array)`` with ``jac=True``; or a finite sum.
    args : tuple
        Extra arguments of every call.
    jac : callable, True or None
        ``jac(x, *args) -> (D,) array``; True if ``fun`` returns value and gradient. Ignored for a finite sum.
    size : int
        Number of free variables d.
    dtype : numpy dtype
        dtype of the points.
    scaling : Scaling
        Map between the solver's and the user's coordinates.
    lower, upper : (d,) arrays, optional
        Bounds in the solver's coordinates.
    vectorized : bool
        ``fun`` takes (k, D) points as rows and returns (k,) values.
    noisy : bool
        Whether two evaluations of one point may differ.
    noise : {"seed", "rng"}, optional
        Common random numbers: ``fun`` takes this keyword, an int or a ``numpy.random.Generator``, and all its
        randomness comes from it. All probes of a round get the same, so that differences compare points and not draws.
    device : bool
        Whether points are CuPy arrays, and gradients come as such.

    Attributes
    ----------
    info : ProblemInfo
        Capabilities; completed by :func:`vamo_bbo.run.start.start`.
    exception : Exception, SystemExit or None
        The last exception of the user's code in this process, for chaining.
    """

    def __init__(
        self,
        fun: Callable[..., Any] | FiniteSum,
        *,
        size: int,
        args: tuple[Any, ...] = (),
        jac: Callable[..., Any] | bool | None = None,
        dtype: Any = np.float64,
        scaling: Scaling | None = None,
        lower: Array | None = None,
        upper: Array | None = None,
        vectorized: bool = False,
        noisy: bool = False,
        noise: str | None = None,
        device: bool = False,
    ) -> None:
        self.fun, self.args, self.jac, self.vectorized = fun, args, jac, vectorized
        self.noise, self.keywords = noise, dict[str, Any]()
        self.size, self.dtype = size, np.dtype(dtype)
        self.scaling = Scaling() if scaling is None else scaling
        plain = self.scaling.trivial and noise is None and not vectorized and jac is not True
        self.simple = plain and not isinstance(fun, FiniteSum)  # f(x) is all there is to a value
        self.exception: Exception | SystemExit | None = None
        self._drawn = _NOTHING_DRAWN
        self.at_start = False  # while x0 is evaluated: a wrong output is raised, NaN in the gradient means unknown
        self.mean_only = False  # whether the last losses were a batch mean
        self.sum = fun if isinstance(fun, FiniteSum) else None
        has_gradient = self.sum.has_gradient if self.sum else (callable(jac) or jac is True)
        self.info = ProblemInfo(
            n_samples=self.sum.n_samples if self.sum else None,
            gradient="full" if has_gradient else "none",
            lower=lower,
            upper=upper,
            noisy=noisy,
            chunk_size=self.sum.chunk_size if self.sum else ProblemInfo().chunk_size,
            grad_cost=self.sum.grad_cost if self.sum else ProblemInfo().grad_cost,
            device=device,
            common_noise=noise is not None,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "exception": None,
            "_drawn": _NOTHING_DRAWN,
        }  # exceptions may hold anything, also what cannot be pickled

    @property
    def user_size(self) -> int:
        """Length D of the user's point."""
        return self.size if self.scaling.template is None else int(self.scaling.template.size)

    @property
    def _xp(self) -> Any:
        """The array namespace of points and gradients."""
        return backends.get("cupy").xp if self.info.device else np

    def declare(self, **changes: Any) -> None:
        """Complete ``info`` with what the first evaluation showed."""
        self.info = replace(self.info, **changes)

    def evaluate(self, probe: Probe, z: Array, seed: int, worker: str = "") -> Answer:
        """Return the answer to ``probe`` at point ``z``.

        Parameters
        ----------
        probe : Probe
            What is asked for.
        z : (d,) array
            The point in the solver's coordinates; overwritten.
        seed : int
            Key of the run, for the samples that the batch names.
        worker : str
            Name to put into the answer.
        """
        began = perf_counter()
        try:
            x = self.scaling.to_user(z)
            if self.noise is not None:
                self.keywords = {self.noise: noise_of(probe, seed, self.noise)}
            if self.sum is not None:
                answer = self._evaluate_sum(self.sum, probe, x, seed)
            elif probe.want == "value":
                raw: Any = self._single(x) if self.vectorized else self._call(x)
                value = outputs.scalar(outputs.pair(raw)[0] if self.jac is True else raw)
                answer = Answer(probe.id, value, error=outputs.trouble(value))
            else:
                answer = self._evaluate_gradient(probe, x)
        except StopIteration:
            raise
        except Exception as exception:
            if self.at_start and isinstance(exception, outputs.OutputError):
                raise
            answer = self.failure(probe, exception)
        fields = (*answer[:6], perf_counter() - began, worker, answer.log)  # faster than _replace
        return tuple.__new__(Answer, fields)

    def evaluate_in_turn(
        self,
        probes: Sequence[Probe],
        points: Iterable[Array],
        seed: int,
        answers: list[Answer],
        *,
        until: float = math.inf,
        target: float = -math.inf,
    ) -> bool:
        """Append the answers to ``probes``, one after the other, to ``answers``; return whether it stopped early.

        Parameters
        ----------
        probes : sequence of Probe
            What is asked for.
        points : (k, d) array, or iterable of (d,) arrays
            Their points in the solver's coordinates; overwritten, or kept by the user.
        seed : int
            As for :meth:`evaluate`.
        answers : list of Answer
            Receives each answer as soon as it is there: an interrupt loses none.
        until : float
            Stop after the first evaluation that ends later, in seconds of ``perf_counter``.
        target : float
            Stop after the first value at or below it.
        """
        if self.gathers(probes):
            self._gather(probes, points, answers)
            return perf_counter() > until or min(answer.value for answer in answers) <= target
        call, simple, new = self._call, self.simple, tuple.__new__
        if simple and not self.args:
            call = self.fun  # type: ignore[assignment]
        now = perf_counter()
        for probe, z in zip(probes, points, strict=True):
            if simple and probe[5] == "value":  # the hot path of cheap objectives
                began = now
                try:
                    value = call(z)
                    if type(value) is not float:
                        value = outputs.scalar(value)
                except StopIteration:
                    raise
                except Exception as exception:
                    now = perf_counter()
                    answer = self.failure(probe, exception)._replace(elapsed=now - began)
                    value = math.nan
                else:
                    now = perf_counter()
                    error = None if value - value == 0.0 else outputs.trouble(value)  # inf - inf is NaN
                    answer = new(Answer, (probe[0], value, None, None, 1, error, now - began, "", None))
            else:
                answer = self.evaluate(probe, z, seed)
                now, value = perf_counter(), answer.value
            answers.append(answer)
            if value <= target or now > until:
                return True
        return False

    def gathers(self, probes: Sequence[Probe]) -> bool:
        """Whether the values of ``probes`` are left on the device until all are there."""
        return self.info.device and self.simple and all(probe.want == "value" for probe in probes)

    def _gather(self, probes: Sequence[Probe], points: Iterable[Array], answers: list[Answer]) -> None:
        """Evaluate on the device without waiting in between; the values come to the host in one piece."""
        began, raw, lost = perf_counter(), list[Any](), dict[int, Answer]()
        for k, (probe, z) in enumerate(zip(probes, points, strict=True)):
            try:
                # A copy: a value may be a view of a point, whose memory the next point may take.
                raw.append(self._xp.array(self._call(z), dtype=np.float64).reshape(()))
            except StopIteration:
                raise
            except Exception as exception:
                raw.append(self._xp.zeros(()))
                lost[k] = self.failure(probe, exception)
        values = self._xp.asnumpy(self._xp.stack(raw)).tolist()
        elapsed = (perf_counter() - began) / len(probes)
        for k, (probe, value) in enumerate(zip(probes, values, strict=True)):
            answer = lost.get(k) or Answer(probe.id, value, error=outputs.trouble(value))
            answers.append(answer._replace(elapsed=elapsed))

    def first(self, probe: Probe, z: Array, seed: int) -> tuple[Answer, dict[str, Any]]:
        """Evaluate x0 and return its answer with what it shows, for :meth:`declare`.

        NaN coordinates of the gradient are declared unknown; a finite sum that returned a float has batch means only.
        """
        self.at_start = True
        try:
            answer = self.evaluate(probe, z, seed)
        finally:
            self.at_start = False
        facts: dict[str, Any] = {"gradient": self.info.gradient, "unknown": self.info.unknown}
        if self.sum is not None:
            facts["per_sample"] = not self.mean_only
        return answer, facts

    def evaluate_rows(self, probes: Sequence[Probe], z: Array, seed: int = 0, worker: str = "") -> list[Answer]:
        """Return the answers to value probes at the rows of ``z``, shape (k, d), by one vectorized call.

        An exception fails every row: a function that can fail for some rows returns NaN there.
        """
        began = perf_counter()
        try:
            if self.noise is not None:
                self.keywords = {self.noise: noise_of(probes[0], seed, self.noise)}
            if not self.scaling.trivial:
                z = self._xp.stack([self.scaling.to_user(row) for row in z])
            values = outputs.rows(self._call(z), len(probes))
        except (StopIteration, outputs.OutputError):
            raise
        except Exception as exception:
            return [self.failure(p, exception)._replace(worker=worker) for p in probes]
        elapsed = (perf_counter() - began) / len(probes)
        return [
            Answer(p.id, v, None, None, 1, outputs.trouble(v), elapsed, worker)
            for p, v in zip(probes, values, strict=True)
        ]

    def failure(self, probe: Probe, exception: Exception | SystemExit) -> Answer:
        """Return the failed answer of an exception of the user's code, traceback included."""
        self.exception = exception
        line = f"{type(exception).__name__}: {exception}".partition("\n")[0]
        log = "".join(traceback.format_exception(exception))
        return Answer(probe.id, error=line, log=log, n_samples=self.samples(probe))

    def samples(self, probe: Probe) -> int:
        """Return how many samples ``probe`` evaluates; 1 for an objective that is not a sum."""
        n = self.info.n_samples
        return 1 if n is None else batch_samples(probe.batch, n)

    def _call(self, x: Array) -> Any:
        return self.fun(x, *self.args, **self.keywords)  # type: ignore[operator]

    def _single(self, x: Array) -> float:
        return outputs.rows(self._call(x[None, :]), 1)[0]

    def _spare(self, x: Array) -> Array:
        """Return a copy for the first of two calls, which may write to its argument; none for large d."""
        return x if x.size >= LARGE else x.copy()

    def _evaluate_gradient(self, probe: Probe, x: Array) -> Answer:
        value, name = math.nan, "jac"
        if self.jac is True:
            name = "fun (jac=True)"
            first, raw = outputs.pair(self._call(x))
            value = outputs.scalar(first)
        else:
            if probe.want == "both":
                value = self._single(self._spare(x)) if self.vectorized else outputs.scalar(self._call(self._spare(x)))
            raw = self.jac(x, *self.args, **self.keywords)  # type: ignore[operator, misc]
        error = outputs.trouble(value) if probe.want == "both" else None
        grad, grad_error = self._gradient(name, raw)
        return Answer(probe.id, value, None, grad, 1, error or grad_error)

    def _gradient(self, name: str, raw: Any) -> tuple[Array | None, str | None]:
        g = self.scaling.gradient(outputs.gradient(name, raw, self.user_size, self.dtype, self._xp))
        if self.at_start:
            unknown = self._xp.isnan(g)
            if unknown.any() and not unknown.all():
                self.declare(gradient="partial", unknown=unknown.astype(np.uint8))
        if self.info.unknown is not None:
            g[self.info.unknown.astype(bool)] = 0
        if not math.isfinite(float(g.sum())) and not bool(self._xp.isfinite(g).all()):
            bad = int(self._xp.isfinite(g).argmin())
            return None, f"{name} returned {g[bad]} in coordinate {bad}"
        return g, None

    def _evaluate_sum(self, problem: FiniteSum, probe: Probe, x: Array, seed: int) -> Answer:
        batch, n = probe[4], problem.n_samples
        if batch is not None:
            drawn, key, idx = self._drawn
            if (drawn is not batch and drawn != batch) or key != seed:
                idx = sampling.indices(batch, seed, n)
                if not idx.flags.writeable:  # the next probe probably has the same batch
                    self._drawn = (batch, seed, idx)
            return self._evaluate_batch(problem, probe, x, idx)
        parts = []
        for lo in range(0, n, problem.chunk_size):
            idx = np.arange(lo, min(lo + problem.chunk_size, n), dtype=np.int64)
            parts.append(self._evaluate_batch(problem, probe, x.copy() if lo else x, idx))
            if parts[-1].error is not None:
                return parts[-1]
        return parts[0] if len(parts) == 1 else _join(probe, parts)

    def _evaluate_batch(self, problem: FiniteSum, probe: Probe, x: Array, idx: IndexArray) -> Answer:
        count, want = len(idx), probe[5]
        if self.info.device:
            idx = self._xp.asarray(idx)
        raw_losses: Any = None
        raw_gradient: Any = None
        name = "FiniteSum: grad"
        if want in ("value", "values"):
            raw_losses = problem.losses(x, idx, *self.args, **self.keywords)
            if type(raw_losses) is float and raw_losses - raw_losses == 0.0:  # a finite batch mean needs no more checks
                self.mean_only = True
                return tuple.__new__(Answer, (probe[0], raw_losses, None, None, count, None, 0.0, "", None))
        elif problem.value_and_grad is not None:
            name = "FiniteSum: value_and_grad"
            raw_losses, raw_gradient = problem.value_and_grad(x, idx, *self.args, **self.keywords)
        else:
            if want == "both":
                raw_losses = problem.losses(self._spare(x), idx, *self.args, **self.keywords)
            assert problem.grad is not None
            raw_gradient = problem.grad(x, idx, *self.args, **self.keywords)
        value, values, error = math.nan, None, None
        if raw_losses is not None:
            got = outputs.losses(raw_losses, count)
            self.mean_only = isinstance(got, float)
            value, values, error = _mean(got)
        if want == "gradient":
            error = None
        grad = None
        if raw_gradient is not None:
            grad, grad_error = self._gradient(name, raw_gradient)
            error = error or grad_error
        return Answer(probe.id, value, values if want == "values" else None, grad, count, error)


def noise_of(probe: Probe, seed: int, kind: str) -> Any:
    """Return the common random numbers of ``probe``: an int, or a new generator, that its whole round shares.

    Probes outside the loop (x0, the re-estimate of the answer) each have their own.

    Examples
    --------
    >>> from vamo_bbo.core.types import AnchorRef
    >>> base, leg = (Probe((3, 0, 0, i), AnchorRef("x", 0)) for i in range(2))
    >>> noise_of(base, 1, "seed") == noise_of(leg, 1, "seed")
    True
    """
    if probe.noise is not None:
        words = [seed, Tag.NOISE, probe.noise]
    else:
        step, phase, attempt, index = probe.id
        words = [seed, Tag.NOISE, *(w & (2**64 - 1) for w in (step, phase, attempt)), 0 if step >= 0 else 1 + index]
    sequence = np.random.SeedSequence(words)
    return np.random.default_rng(sequence) if kind == "rng" else int(sequence.generate_state(1, np.uint32)[0])


def batch_samples(batch: Batch | None, n: int) -> int:
    """Return the number of samples of a batch in a sum of ``n`` terms; None is all of them.

    Examples
    --------
    >>> batch_samples(Batch("epoch", 0, 0, 4), 10)
    3
    """
    if batch is None:
        return n
    if batch.kind == "range":
        return batch.b - batch.a
    if batch.kind == "iid":
        return batch.size
    lo, hi = sampling.bounds(n, batch.size, batch.b)
    return hi - lo


def _mean(got: FloatArray | float) -> tuple[float, FloatArray | None, str | None]:
    """Return mean, per-sample values and error; NaN and inf samples are taken out of the mean."""
    if isinstance(got, float):
        return got, None, outputs.trouble(got)
    mean = float(got.mean())
    if math.isfinite(mean):
        return mean, got, None
    finite = np.isfinite(got)
    got[~finite] = np.nan
    if not finite.any():
        return math.nan, got, "every sample of the batch returned nan or inf"
    return float(got[finite].mean()), got, None


def _join(probe: Probe, parts: list[Answer]) -> Answer:
    """Return the answer for all samples from those of consecutive ranges."""
    weights = [p.n_samples for p in parts]
    total = sum(weights)
    value = math.fsum(w * p.value for w, p in zip(weights, parts, strict=True)) / total
    values = None
    if all(p.values is not None for p in parts):
        values = np.concatenate([p.values for p in parts if p.values is not None])
        value = float(np.nanmean(values))
    grad: Array | None = None
    for weight, part in zip(weights, parts, strict=True):
        if part.grad is not None:
            grad = weight / total * part.grad if grad is None else grad + weight / total * part.grad
    return Answer(probe.id, value, values, grad, total)
