"""`--require-signature` for commands that open bundles."""

import functools
import inspect
from pathlib import Path
from typing import Any, Callable, List, Optional

from blendmask_edge.cli.arguments import SignatureOption

NAME = "require_signature"


def requiring_signature(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the option `--require-signature`, within which each bundle needs a signature."""

    @functools.wraps(command)
    def guarded(*, require_signature: Optional[List[Path]] = None, **options: Any) -> Any:
        if not require_signature:
            return command(**options)
        from blendmask_edge.bundle.signature import require_signature as required

        with required(require_signature):
            return command(**options)

    signature = inspect.signature(command)
    option = inspect.Parameter(NAME, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=SignatureOption)
    parameters = [each.replace(kind=option.kind) for each in signature.parameters.values()]
    guarded.__signature__ = signature.replace(parameters=[*parameters, option])  # type: ignore[attr-defined]
    guarded.__annotations__ = {**command.__annotations__, NAME: SignatureOption}
    return guarded
