"""Peers that JAX runs, in an environment of their own; see ``benchmarks.remote``.

A function gets the arrays of the case and returns the call to time, which has to wait
for its result. JAX is imported inside: this file is read without it, too.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.remote import Arrays, serve

Run = Callable[[], Any]


def solved(velocity: Any, start: Any, times: Any, tolerance: float) -> Run:
    """Compile a flow that starts at the first of the times, by diffrax."""
    import diffrax
    import jax

    solver, step = diffrax.Dopri8(), diffrax.PIDController(tolerance, tolerance)
    term = diffrax.ODETerm(lambda t, y, args: velocity(y, *args))

    def path(start: Any, *args: Any) -> Any:
        found = diffrax.diffeqsolve(
            term,
            solver,
            times[0],
            times[-1],
            None,
            start,
            args,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=step,
            max_steps=None,
        )
        return found.ys

    compiled = jax.jit(path)
    return lambda: compiled(start).block_until_ready()


def spiral_flow(given: Arrays) -> Run:
    from jax import numpy as jnp

    rate, decay, gradient = (float(given[k]) for k in ("rate", "decay", "gradient"))

    def velocity(z: Any) -> Any:
        square = z @ z
        growth = rate * gradient**2 / square**2 - 2 * decay - rate * decay**2
        return growth / 2 * z + gradient / square * jnp.stack([z[1], -z[0]])

    start, times = jnp.asarray(given["start"]), jnp.asarray(given["times"])
    return solved(velocity, start, times, 1e-12)


def erf_series(given: Arrays) -> Run:
    import jax
    from jax import numpy as jnp
    from jax.experimental.jet import jet

    u, v = jnp.asarray(given["u"]), jnp.asarray(given["v"])
    order = int(given["order"])
    factorials = jnp.cumprod(jnp.arange(1.0, order + 1))[:, None]

    @jax.jit
    def series(u: Any, v: Any) -> Any:
        higher = [v, *[jnp.zeros_like(u)] * (order - 1)]
        value, derivatives = jet(jax.lax.erf, (u,), (higher,))
        scaled = jnp.stack(derivatives) / factorials
        return jnp.concatenate([value[None], scaled])

    return lambda: series(u, v).block_until_ready()


# --- networks -----------------------------------------------------------------------


def weights_of(given: Arrays) -> list[tuple[Any, Any]]:
    from jax import numpy as jnp

    count = sum(name.startswith("weight") for name in given)
    return [
        (jnp.asarray(given[f"weight{k}"]), jnp.asarray(given[f"bias{k}"]))
        for k in range(count)
    ]


def outputs_of(weights: Any, x: Any, given: Arrays, activation: Any) -> Any:
    """Outputs of a network in the parametrisation ``ntk``."""
    sigma_w, sigma_b = float(given["sigma_w"]), float(given["sigma_b"])
    hidden = x
    for number, (weight, bias) in enumerate(weights):
        hidden = activation(hidden) if number else hidden
        m = sigma_w / weight.shape[1] ** 0.5
        hidden = m * (hidden @ weight.T) + sigma_b * bias
    return hidden[..., 0]


def jacobian(given: Arrays) -> Run:
    import jax
    from jax import numpy as jnp

    weights, x = weights_of(given), jnp.asarray(given["x"])

    def output(weights: Any, point: Any) -> Any:
        return outputs_of(weights, point, given, jnp.tanh)

    @jax.jit
    def gradients(weights: Any, x: Any) -> Any:
        slopes = jax.vmap(jax.grad(output), (None, 0))(weights, x)
        parts = [part.reshape(len(x), -1) for layer in slopes for part in layer]
        return jnp.concatenate(parts, axis=1)

    return lambda: gradients(weights, x).block_until_ready()


def descent(given: Arrays) -> Run:
    import jax
    from jax import numpy as jnp

    weights, rate = weights_of(given), float(given["rate"])
    x, y, batches = (jnp.asarray(given[name]) for name in ("x", "y", "batches"))

    def loss(weights: Any, batch: Any) -> Any:
        miss = outputs_of(weights, x[batch], given, jnp.tanh) - y[batch]
        return (miss**2).sum() / 2

    def step(weights: Any, batch: Any) -> Any:
        slopes = jax.grad(loss)(weights, batch)
        return jax.tree.map(lambda w, g: w - rate * g, weights, slopes), None

    @jax.jit
    def trained(weights: Any) -> Any:
        weights, _ = jax.lax.scan(step, weights, batches)
        return outputs_of(weights, x, given, jnp.tanh)

    return lambda: trained(weights).block_until_ready()


PEERS: dict[str, Callable[[Arrays], Run]] = {
    "descent": descent,
    "erf_series": erf_series,
    "jacobian": jacobian,
    "spiral_flow": spiral_flow,
}

if __name__ == "__main__":
    serve(PEERS)
