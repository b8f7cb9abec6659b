"""The stand-ins for TensorRT have what the SDK calls, and the table of calls is complete.

`tests/targets/test_tensorrt_modules.py` holds the same table to the real modules.
"""

from __future__ import annotations

import types
from typing import Any

from tests.sdk.devices.fake_tensorrt import make_tensorrt
from tests.sdk.runtimes.fake_cuda import FakeDriver
from tests.sdk.runtimes.fake_tensorrt import Context, Engine, make_module
from tests.sdk.runtimes.tensorrt_calls import BUILDING, INSPECTING, MEMBERS, RUNNING, called_in_sources, problems


def test_table_names_every_call_of_the_sources() -> None:
    listed = {call.split(".")[1] for call in (*BUILDING, *INSPECTING, *RUNNING)} - {"__init__", "desc"}
    assert called_in_sources() == listed


def test_stand_in_that_runs_engines_takes_the_same_calls() -> None:
    module: Any = make_module(FakeDriver(), "10.3.0")
    module.ICudaEngine, module.IExecutionContext = Engine, Context
    assert problems(module, {**RUNNING, **INSPECTING}) == []
    for name in ("TensorIOMode", "DataType"):
        assert set(getattr(module, name).__members__) >= MEMBERS[name]


def test_stand_in_that_builds_takes_the_same_calls() -> None:
    module = make_tensorrt("10.3.0", parses=False)
    builder = module.Builder(module.ILogger())
    module.IBuilderConfig = type(builder.create_builder_config())
    module.ParserError = types.SimpleNamespace(desc=lambda _self: "")
    assert problems(module, BUILDING) == []


def test_missing_and_changed_calls_are_told() -> None:
    class Runtime:
        def deserialize_cuda_engine(self) -> None:
            pass

    calls = {name: count for name, count in RUNNING.items() if "Runtime." in name or name.endswith("num_io_tensors")}
    told = problems(types.SimpleNamespace(Runtime=Runtime), calls)
    assert [line.split(":")[0] for line in told] == [
        "Runtime.deserialize_cuda_engine does not take 1 arguments",
        "ICudaEngine.num_io_tensors is missing",
    ]
