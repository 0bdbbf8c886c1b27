"""Calls of KServe's gRPC service at a port, told as JSON; runs in the model server's own environment.

python grpc_calls.py PORT
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

LARGE = 500_000
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def infer(values: list[float], model: str = "doubler") -> Any:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[len(values)])
    tensor.contents.fp64_contents.extend(values)
    return pb.ModelInferRequest(model_name=model, id="7", inputs=[tensor])


def told(call: Any) -> dict[str, Any]:
    """Return what came of a call: code, details, metadata of the server's own, and a digest of the outputs."""
    outputs: list[list[float]] = []
    try:
        reply = call.result()
        outputs = [list(output.contents.fp64_contents) for output in reply.outputs]
    except grpc.RpcError:
        pass
    except grpc.FutureCancelledError:
        return {"cancelled": True}
    metadata = [*(call.initial_metadata() or ()), *(call.trailing_metadata() or ())]
    return {
        "code": call.code().name,
        "details": call.details(),
        "metadata": sorted([name, str(value)] for name, value in metadata),
        "outputs": [[len(values), sum(values), values[:3]] for values in outputs],
    }


def main(port: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
        stub = GRPCInferenceServiceStub(channel)

        def ask(name: str, request: Any, **options: Any) -> None:
            found[name] = told(
                stub.ModelInfer.future(request, metadata=[("ce-id", name), ("x-tenant", "a")], **options)
            )

        ask("plain", infer([1.0, 2.5]))
        ask("compressed", infer([3.0] * 1000), compression=grpc.Compression.Gzip)
        ask("unknown", infer([1.0], "nobody"))
        ask("large", infer([float(number) for number in range(LARGE)]))
        ask("late", infer([-1.0]), timeout=0.5)
        cancelled = stub.ModelInfer.future(infer([-1.0]), metadata=[("ce-id", "cancelled")])
        time.sleep(1.5)  # it has arrived by now, and is answered after 5 s
        cancelled.cancel()
        found["cancelled"] = told(cancelled)
        many = [
            stub.ModelInfer.future(infer([float(number)]), metadata=[("ce-id", f"m{number}")]) for number in range(100)
        ]
        found["many"] = [told(call)["outputs"] for call in many]
        found["live"] = stub.ServerLive(pb.ServerLiveRequest()).live
        found["ready"] = stub.ModelReady(pb.ModelReadyRequest(name="doubler")).ready
    return found


if __name__ == "__main__":
    json.dump(main(sys.argv[1]), sys.stdout)
