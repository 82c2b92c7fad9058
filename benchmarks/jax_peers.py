"""Peers that JAX runs, in an environment of their own; see ``benchmarks.remote``.

A function gets the arrays of the case and returns the call to time, which has to wait
for its result. JAX is imported inside: this file is read without it, too.
"""

from collections.abc import Callable
from itertools import pairwise
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


def step_series(given: Arrays) -> Run:
    import jax
    from jax import numpy as jnp
    from jax.experimental.jet import jet

    weights, order = weights_of(given), int(given["order"])
    train, look, r = (jnp.asarray(given[name]) for name in ("train", "look", "r"))
    factorials = jnp.cumprod(jnp.arange(1.0, order + 1))[:, None]

    def outputs(weights: Any, x: Any) -> Any:
        return outputs_of(weights, x, given, jnp.tanh)

    @jax.jit
    def series(weights: Any) -> Any:
        direction = jax.vjp(lambda w: outputs(w, train), weights)[1](r)[0]

        def along(s: Any) -> Any:
            moved = jax.tree.map(lambda w, v: w + s * v, weights, direction)
            return outputs(moved, look)

        higher = [jnp.ones(()), *[jnp.zeros(())] * (order - 1)]
        value, derivatives = jet(along, (jnp.zeros(()),), (higher,))
        scaled = jnp.stack(derivatives) / factorials
        return jnp.concatenate([value[None], scaled])

    return lambda: series(weights).block_until_ready()


def tangent_kernel(given: Arrays) -> Run:
    import jax
    import neural_tangents
    from jax import numpy as jnp
    from jax._src import source_info_util
    from jax.interpreters import ad
    from neural_tangents import stax

    # Its fastest mode reads two names that jax has moved.
    ad.source_info_util, ad.config = source_info_util, jax.config
    sigma_w, sigma_b = float(given["sigma_w"]), float(given["sigma_b"])
    layers: list[Any] = []
    weights: list[Any] = []
    for number, (weight, bias) in enumerate(weights_of(given)):
        if number:
            layers.append(stax.Erf())
            weights.append(())
        layers.append(stax.Dense(len(weight), sigma_w, sigma_b))
        weights.append((weight.T, bias[None]))
    _, function, _ = stax.serial(*layers)
    # Its hint that inputs do not mix makes the mode several times as fast.
    mode = neural_tangents.NtkImplementation.STRUCTURED_DERIVATIVES
    kernel = neural_tangents.empirical_ntk_fn(
        function, vmap_axes=0, implementation=mode
    )
    x = jnp.asarray(given["x"])
    compiled = jax.jit(lambda weights: kernel(x, None, weights))
    return lambda: compiled(weights).block_until_ready()


def infinite_width(given: Arrays) -> Run:
    import jax
    from jax import numpy as jnp
    from neural_tangents import stax

    dense = (1, float(given["sigma_w"]), float(given["sigma_b"]))
    *_, kernel = stax.serial(stax.Dense(*dense), stax.Gelu(), stax.Dense(*dense))
    x = jnp.asarray(given["x"])
    compiled = jax.jit(lambda x: kernel(x, None, "ntk"))
    return lambda: compiled(x).block_until_ready()


def linear_sgd(given: Arrays) -> Run:
    import jax
    from jax import numpy as jnp

    names = ("kernel", "y", "f0", "samples", "noise", "rate")
    kernel, y, f0, samples, noise, rate = (jnp.asarray(given[k]) for k in names)

    def step(f: Any, chosen: Any) -> Any:
        j, epsilon = chosen
        return f - rate * kernel[:, j] * (f[j] - y[j] - epsilon), None

    compiled = jax.jit(lambda f: jax.lax.scan(step, f, (samples, noise))[0])
    return lambda: compiled(f0).block_until_ready()


# --- gradient flow and its counter terms --------------------------------------------


def _descended(given: Arrays) -> Callable[[Any], Any]:
    """Return minus the gradient of the loss of one flat vector."""
    import jax
    from jax import numpy as jnp

    inputs, targets = jnp.asarray(given["inputs"]), jnp.asarray(given["targets"])
    widths = given["widths"].tolist()

    def loss(theta: Any) -> Any:
        hidden, start = inputs, 0
        for a, b in pairwise(widths):
            hidden = jnp.tanh(hidden) if start else hidden
            weight = theta[start : start + a * b].reshape(a, b)
            start += a * b
            hidden = hidden @ weight + theta[start : start + b]
            start += b
        return ((hidden - targets) ** 2).mean()

    return lambda theta: -jax.grad(loss)(theta)


def counter_terms(given: Arrays) -> Run:
    import jax
    from jax import numpy as jnp

    force, theta = _descended(given), jnp.asarray(given["theta"])

    def along(function: Any, x: Any, v: Any) -> Any:
        return jax.jvp(function, (x,), (v,))[1]

    @jax.jit
    def terms(theta: Any) -> Any:
        f = force(theta)
        b = along(force, theta, f)
        c = along(force, theta, b)
        d = along(lambda x: along(force, x, f), theta, f)
        return jnp.stack([f, -b / 2, c / 3 + d / 12])

    return lambda: terms(theta).block_until_ready()


def gradient_flow(given: Arrays) -> Run:
    from jax import numpy as jnp

    theta, times = jnp.asarray(given["theta"]), jnp.asarray(given["times"])
    return solved(_descended(given), theta, times, 1e-8)


# --- random networks ----------------------------------------------------------------


def lyapunov(given: Arrays) -> Run:
    import jax
    from jax import numpy as jnp

    couplings, start = (jnp.asarray(given[k]) for k in ("couplings", "start"))
    dt, between = float(given["dt"]), int(given["between"])
    before, blocks = int(given["before"]), int(given["blocks"])

    def velocity(x: Any) -> Any:
        return couplings @ jnp.tanh(x) - x

    def joint(state: Any) -> Any:
        return jnp.stack(jax.jvp(velocity, (state[0],), (state[1],)))

    def step(_: int, state: Any) -> Any:
        one = joint(state)
        two = joint(state + dt / 2 * one)
        three = joint(state + dt / 2 * two)
        four = joint(state + dt * three)
        return state + dt / 6 * (one + 2 * two + 2 * three + four)

    def block(state: Any, _: None) -> Any:
        state = jax.lax.fori_loop(0, between, step, state)
        size = jnp.linalg.norm(state[1])
        return state.at[1].divide(size), jnp.log(size)

    @jax.jit
    def exponent(state: Any) -> Any:
        growth = jax.lax.scan(block, state, length=before + blocks)[1]
        return growth[before:].sum() / (blocks * between * dt)

    return lambda: exponent(start).block_until_ready()


def speed_gradient(given: Arrays) -> Run:
    import jax
    from jax import numpy as jnp

    couplings, states = jnp.asarray(given["couplings"]), jnp.asarray(given["x"])

    @jax.jit
    @jax.grad
    def gradient(x: Any) -> Any:
        return ((couplings @ jnp.tanh(x) - x) ** 2).sum() / 2

    return lambda: gradient(states).block_until_ready()


# --- mean field ---------------------------------------------------------------------


def mean_field_moments(given: Arrays) -> Run:
    from jax import numpy as jnp

    names = ("temperature", "decay", "end", "spread")
    temperature, decay, end, spread = (float(given[name]) for name in names)
    mean, S = jnp.asarray(given["mean"]), jnp.asarray(given["S"])
    size, eye = len(mean), jnp.eye(len(mean))

    def velocity(y: Any) -> Any:
        m1, m2 = y[:size], y[size : 2 * size]
        V1, V2 = y[2 * size :].reshape(2, size, size)
        H = (m2 @ m2 + jnp.trace(V2)) * S + decay * eye
        encoder = m1 @ S @ m1 + (V1 * S).sum()
        parts = (
            S @ m2 - H @ m1,
            S @ m1 - (encoder + decay) * m2,
            2 * temperature * eye - H @ V1 - V1 @ H,
            2 * temperature * eye - 2 * (encoder + decay) * V2,
        )
        return jnp.concatenate([part.ravel() for part in parts])

    covariance = (spread * eye).ravel()
    start = jnp.concatenate([mean, mean, covariance, covariance])
    path = solved(velocity, start, jnp.array([0.0, end]), 1e-10)
    return lambda: path()[-1]


# --- clouds and paths ---------------------------------------------------------------


def langevin(given: Arrays) -> Run:
    """Euler's method of diffrax for walkers, each with a noise of its own."""
    import diffrax
    import jax
    import lineax
    from jax import numpy as jnp

    start, pull = jnp.asarray(given["start"]), jnp.asarray(given["pull"])
    dt, steps = float(given["dt"]), int(given["steps"])
    strength = (2 * float(given["diffusion"])) ** 0.5

    def solve(w: Any, key: Any) -> Any:
        noise = diffrax.UnsafeBrownianPath(w.shape, key)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, w, _: -pull * w),
            diffrax.ControlTerm(
                lambda t, w, _: lineax.DiagonalLinearOperator(
                    jnp.full_like(w, strength)
                ),
                noise,
            ),
        )
        end = dt * steps
        found = diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            0.0,
            end,
            dt,
            w,
            adjoint=diffrax.DirectAdjoint(),
            max_steps=steps + 2,
        )
        return found.ys[0]

    keys = jax.random.split(jax.random.PRNGKey(int(given["seed"])), len(start))
    call = jax.jit(jax.vmap(solve))
    return lambda: call(start, keys).block_until_ready()


def flow(given: Arrays) -> Run:
    """Gradient flow of diffrax with its density, all networks as one state."""
    import diffrax
    import jax
    from jax import numpy as jnp

    points = jnp.asarray(given["points"])
    mass, coupling = float(given["mass"]), float(given["coupling"])
    end = float(given["time"])

    def velocity(t: Any, state: Any, _: Any) -> Any:
        w, _ = state
        bend = (mass + 3 * coupling * w**2).sum(axis=1)
        return -mass * w - coupling * w**3, bend

    @jax.jit
    def solve(w: Any) -> Any:
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            diffrax.Dopri8(),
            0.0,
            end,
            None,
            (w, jnp.zeros(len(w))),
            stepsize_controller=diffrax.PIDController(rtol=1e-12, atol=1e-12),
        )
        path, ratio = found.ys
        return jnp.concatenate([path[0], ratio[0][:, None]], axis=1)

    return lambda: solve(points).block_until_ready()


PEERS: dict[str, Callable[[Arrays], Run]] = {
    "counter_terms": counter_terms,
    "descent": descent,
    "erf_series": erf_series,
    "flow": flow,
    "gradient_flow": gradient_flow,
    "infinite_width": infinite_width,
    "jacobian": jacobian,
    "langevin": langevin,
    "linear_sgd": linear_sgd,
    "lyapunov": lyapunov,
    "mean_field_moments": mean_field_moments,
    "speed_gradient": speed_gradient,
    "spiral_flow": spiral_flow,
    "step_series": step_series,
    "tangent_kernel": tangent_kernel,
}

if __name__ == "__main__":
    serve(PEERS)
