"""JAX: the whole text as one jitted lax.scan with the sampler inside.

The sampler's cumulative sum is a product with a triangle of ones: never slower than jnp.cumsum.
"""

import os
from typing import Any

import numpy as np

from benchmarks.decode.peers.cells import advance, fold
from benchmarks.decode.peers.peer import (
    START,
    Peer,
    Setup,
    Tokens,
    Work,
    Writer,
    needed,
    only_on_cpu,
)

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
# YNNPACK's products: off by default in jaxlib 0.10, and faster from batch 4 up.
YNNPACK = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def _load() -> Any:
    """Import JAX for one thread of the processor."""
    if ONE_THREAD not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    return needed("jax")


def constants(options: dict[str, str]) -> Setup:
    """Weights (inputs, outputs) that the compiler sees as constants."""

    def setup(work: Work) -> Writer:
        only_on_cpu(work)
        jax = _load()
        parameters = _parameters(jax, work, transposed=True)
        compiled = jax.jit(
            lambda uniform: _scan(jax, work, parameters, lambda x, W: x @ W, uniform),
            compiler_options=options,
        )
        return lambda: _tokens(compiled(work.uniform))

    return setup


def rows(work: Work) -> Writer:
    """Weights (outputs, inputs) as arguments: at batch 1, each output is a dot product of rows."""
    only_on_cpu(work)
    jax = _load()
    parameters = _parameters(jax, work, transposed=False)
    contract_last = (((1,), (1,)), ((), ()))

    def product(x: Any, W: Any) -> Any:
        return jax.lax.dot_general(x, W, contract_last)

    compiled = jax.jit(lambda parameters, uniform: _scan(jax, work, parameters, product, uniform))
    return lambda: _tokens(compiled(parameters, work.uniform))


def _tokens(array: Any) -> Tokens:
    return np.asarray(array).astype(np.int64)


def _parameters(jax: Any, work: Work, *, transposed: bool) -> Any:
    def laid_out(W: Any) -> Any:
        return jax.numpy.asarray(W.T if transposed else W)

    layers = [
        {
            "input": laid_out(layer.input) if index else jax.numpy.asarray(layer.input),
            "bias": jax.numpy.asarray(layer.bias),
            "R": laid_out(layer.R),
            "held_out": jax.numpy.asarray(layer.held_out),
        }
        for index, layer in enumerate(fold(work.weights))
    ]
    decoder = laid_out(work.weights.networks[0].decoder)
    return layers, decoder, jax.numpy.asarray(work.weights.decoder_bias)


def _scan(jax: Any, work: Work, parameters: Any, product: Any, uniform: Any) -> Any:
    layers, decoder, decoder_bias = parameters
    jnp, model, N = jax.numpy, work.weights, work.uniform.shape[1]
    ones = jnp.triu(jnp.ones((model.vocabulary_size, model.vocabulary_size)))

    def step(carry: Any, u: Any) -> Any:
        token, state = carry
        x, new = None, []
        for index, (layer, old) in enumerate(zip(layers, state, strict=True)):
            share = product(x, layer["input"]) + layer["bias"] if index else layer["input"][token]
            recurrent = product(old[0], layer["R"])
            new.append(
                advance(
                    model.cell,
                    share,
                    recurrent,
                    old,
                    layer["held_out"],
                    jax.nn.sigmoid,
                    jnp.tanh,
                )
            )
            x = new[-1][0]
        logits = product(x, decoder) + decoder_bias  # (N, V)
        cdf = jnp.exp(logits - logits.max(-1, keepdims=True)) @ ones
        token = (cdf <= u[:, None] * cdf[:, -1:]).sum(-1).astype(jnp.int32)
        return (token, new), token

    zero = tuple(jnp.zeros((N, model.hidden_size)) for _ in model.state_names)
    first = (jnp.full(N, START, jnp.int32), [zero for _ in layers])
    return jax.lax.scan(step, first, uniform)[1]


JAX: Peer = {
    "constants, YNNPACK": constants(YNNPACK),
    "constants": constants({}),
    "rows": rows,
}
