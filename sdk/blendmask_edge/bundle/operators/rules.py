"""The operators that a graph in a bundle may have, and what a runtime needs for them.

They are those that our exporter writes for its own networks, and those that it may write for a backbone that a user
registered: activations, normalizations, pooling, arithmetic.
"""

from __future__ import annotations

import math
from typing import Dict

from blendmask_edge.bundle.operators import arrangement, elementwise, layers
from blendmask_edge.bundle.operators.bound import Bound, Call, Rule

RULES: Dict[str, Rule] = {**elementwise.RULES, **layers.RULES, **arrangement.RULES}
"""By the operator's name, what bounds its result."""


def work(operator: str, call: Call, result: Bound) -> int:
    """Return an upper bound of the multiply-accumulates, or of the elements where there are more."""
    each = 1
    if operator == "Conv":
        each = math.prod(call.input(1).shape[1:])
    elif operator == "MatMul":
        each = call.input(0).shape[-1]
    elif operator == "Gemm":
        each = max(call.input(0).shape)
    elif operator.endswith("Pool"):
        each = math.prod(call.integers("kernel_shape")) or 1
    return max(result.count * each, *(bound.count for bound in call.inputs if bound is not None), 0)


def scratch(operator: str, call: Call, result: Bound) -> int:
    """Return an upper bound of the elements that a runtime may lay out for an operator beside its result.

    Runtimes compute a convolution as a product of matrices, for which they copy each window of the image.
    """
    if operator != "Conv":
        return 0
    return math.prod(call.input(1).shape[1:]) * math.prod(result.shape[2:])
