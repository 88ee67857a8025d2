"""`pruning.networks.export` under its public name, for ``from pruning.export import …``."""

import sys

from pruning.networks import export
from pruning.networks.export import NumpyNetwork as NumpyNetwork
from pruning.networks.export import to_numpy as to_numpy
from pruning.networks.export import to_onnx as to_onnx

sys.modules[__name__] = export  # one module under both names
