"""Names in a build's folder that both environments know: a backend's process writes them."""

from __future__ import annotations

REQUEST = "request.json"
RESULT = "result.json"
FLOW_LOG = "flow.log"
HARDWARE = "hardware.json"
PARAMETERS = "params.npz"
GOLDEN = "golden.npz"
HDL, REPORTS, SCRATCH = "hdl", "reports", "finn"
# Below REPORTS:
GOLDEN_CHECK, LAYERS = "golden_check.json", "layers.json"
