"""Our methods as ``method=`` of scipy's own functions."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vamo_bbo._errors import OptionError
from vamo_bbo.minimize import minimize

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["ScipyMethod", "as_scipy_method"]

_KEYWORDS = frozenset(
    name for name, p in inspect.signature(minimize).parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY
)
_GENERIC = ("maxiter", "disp")


@dataclass(frozen=True, slots=True)
class ScipyMethod:
    """What :func:`as_scipy_method` returns: a callable that follows scipy's protocol of custom methods.

    Parameters
    ----------
    method : str or solver
        Any method of :func:`vamo_bbo.minimize.minimize`.
    options : dict
        Its options, and keyword parameters of ``minimize`` such as ``rng`` and ``maxfev``.
    """

    method: Any
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(
        self,
        fun: Callable[..., Any],
        x0: Any,
        args: Any = (),
        *,
        jac: Any = None,
        hess: Any = None,
        hessp: Any = None,
        bounds: Any = None,
        constraints: Any = (),
        callback: Callable[..., Any] | None = None,
        tol: float | None = None,
        **options: Any,
    ) -> OptimizeResult:
        """Minimize ``fun``; called by scipy, which returns the result unchanged."""
        merged = {**self.options, **options}
        keywords = {name: merged.pop(name) for name in list(merged) if name in _KEYWORDS}
        for name in self._unknown(merged):
            del merged[name]
        return minimize(
            fun,
            x0,
            args,
            self.method,
            jac if callable(jac) else None,
            hess,
            hessp,
            bounds,
            constraints,
            tol,
            callback,
            merged,
            **keywords,
        )

    def _unknown(self, options: dict[str, Any]) -> list[str]:
        """Return the options that the method does not have, after a warning in scipy's words."""
        from scipy.optimize import OptimizeWarning

        from vamo_bbo.solvers import METHODS

        name = self.method.lower().replace("_", "-") if isinstance(self.method, str) else None
        if name is not None and name not in METHODS:
            return []  # "auto", or scipy's own, which warns itself
        known = set(_GENERIC) | (set() if name is None else set(inspect.signature(METHODS[name]).parameters))
        unknown = [key for key in options if key not in known]
        if unknown:
            warnings.warn(f"Unknown solver options: {', '.join(unknown)}", OptimizeWarning, stacklevel=5)
        return unknown

    def lower(self) -> str:
        """Return the method of scipy whose arguments ``shgo`` passes on: gradient and bounds."""
        return "l-bfgs-b"


def as_scipy_method(method: Any, **options: Any) -> ScipyMethod:
    """Return one of our methods for ``scipy.optimize.minimize``, ``basinhopping``, ``dual_annealing`` and ``shgo``.

    Parameters
    ----------
    method : str or solver
        Any method of :func:`vamo_bbo.minimize`, also "auto".
    **options
        Options of the method, and keyword parameters of :func:`vamo_bbo.minimize` such as ``rng``, ``workers`` and
        ``maxfev``. ``options=`` of scipy's call overrides them.

    Returns
    -------
    ScipyMethod
        A callable; it is picklable if ``method`` and ``options`` are.

    Raises
    ------
    OptionError
        ``method`` is neither a name nor a solver.

    Notes
    -----
    A callback's ``StopIteration`` ends the run with status 99, as in scipy's methods; scipy itself would let it
    through.
    ``jac="2-point"`` and other strings do not reach a custom method: scipy passes None. ``shgo`` drops ``options`` it
    does not know, so give them here.

    Examples
    --------
    >>> from scipy.optimize import minimize
    >>> method = as_scipy_method("spsa", rng=1, maxfev=300)
    >>> result = minimize(lambda x: (x[0] - 1) ** 2 + x[1] ** 2, [0.0, 2.0], method=method)
    >>> bool(result.fun < 1.0), result.nfev <= 300
    (True, True)
    """
    if not isinstance(method, str) and not callable(getattr(method, "ask", None)):
        raise OptionError(f"as_scipy_method: method must be a name or a solver, got {method!r}.")
    return ScipyMethod(method, options)
